"""Paths below the data, cache and model folders, and atomic writes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataPaths:
    """The files of the competition, below `root`, and the files that the scripts write, below `cache`."""

    root: Path
    cache_dir: Path | None = None

    @property
    def cache(self) -> Path:
        """The folder that the scripts write to: --cache_dir, else the data folder."""
        return self.cache_dir or self.root

    @property
    def train_csv(self) -> Path:
        return self.root / "train.csv"

    @property
    def localizers_csv(self) -> Path:
        return self.root / "train_localizers.csv"

    @property
    def series(self) -> Path:
        """series/<SeriesInstanceUID>/<SOPInstanceUID>.dcm"""
        return self.root / "series"

    @property
    def segmentations(self) -> Path:
        """<uid>/<uid>_cowseg.nii or <uid>_cowseg.nii, each also as .nii.gz"""
        return self.root / "segmentations"

    @property
    def npy_sequence(self) -> Path:
        """<uid>.npy (slices, 512, 512) float16, or the same compressed in <uid>.blosc2; <uid>.json beside it"""
        return self.cache / "npy_sequence"

    @property
    def npy_slice(self) -> Path:
        """<uid>/<iiii>.npy (512, 512) float16"""
        return self.cache / "npy_slice"

    @property
    def npy_vessels(self) -> Path:
        """<uid>.npy (slices, 512, 512) uint8, or <uid>.blosc2, where there is a mask: 0, or 1 + index into LOCATIONS"""
        return self.cache / "npy_vessels"

    @property
    def train_meta_csv(self) -> Path:
        return self.cache / "train_meta.csv"

    @property
    def slices_parquet(self) -> Path:
        return self.cache / "slices.parquet"

    @property
    def localizer_errors_csv(self) -> Path:
        return self.cache / "localizer_errors.csv"

    @property
    def hard_negatives(self) -> Path:
        """one row per slice: SeriesInstanceUID, slice, probability, position_mm, fold"""
        return self.cache / "hard_negatives.parquet"

    @property
    def preprocess_errors_csv(self) -> Path:
        return self.cache / "preprocess_errors.csv"

    @property
    def manifest(self) -> Path:
        """one JSON object per series: aneurysm/folds/manifest.py"""
        return self.cache / "manifest.jsonl"

    @property
    def volume_split_csv(self) -> Path:
        """SeriesInstanceUID, split"""
        return self.cache / "volume_split.csv"

    @property
    def npy_volume(self) -> Path:
        """<uid>.npy (Z, H, W) in [0, 1], <uid>.json beside it, <uid>_mask.npy where there is a vessel mask"""
        return self.cache / "npy_volume"

    @property
    def volume_errors_csv(self) -> Path:
        return self.cache / "volume_errors.csv"


VOLUME3D = "volume3d"  # name of the second system's model folder, instead of an encoder's name


@dataclass(frozen=True)
class ModelPaths:
    """The files that training and evaluation write below the model folder, for one encoder."""

    root: Path
    encoder: str

    @property
    def folder(self) -> Path:
        """<model_dir>/<encoder>/"""
        return self.root / re.sub(r"[^\w.-]+", "_", self.encoder)

    def fold(self, fold: int | None) -> Path:
        """fold-<k>/, whose models were not trained on fold k; fold-none/ (None) for models trained on all series"""
        return self.folder / f"fold-{'none' if fold is None else fold}"

    def stage1(self, fold: int | None) -> Path:
        """The weights of stage 1 that later steps use."""
        return self.fold(fold) / "last.pth"

    def features(self, fold: int | None) -> Path:
        """<uid>.safetensors: features of a series' slices, from the stage 1 that was not trained on `fold`."""
        return self.fold(fold) / "features"

    def stage2(self, fold: int | None) -> Path:
        """The folder of the stage 2 that was not trained on `fold`: last.pth (use this), best.pth, history.csv, ..."""
        return self.fold(fold) / "stage2"

    @classmethod
    def only_one(cls, root: Path, encoder: str) -> ModelPaths:
        """The paths of `encoder`; if that is empty, of the only encoder in the folder, else ValueError.

        Folder names count as encoder names, except that of the second system.
        """
        if encoder:
            return cls(root, encoder)
        found = sorted({path.parent.name for path in root.glob("*/fold-*")} - {VOLUME3D})
        if len(found) != 1:
            raise ValueError(f"{root}: expected one encoder or --encoder, found {', '.join(found) or 'none'}")
        return cls(root, found[0])

    @property
    def oof_stage1_csv(self) -> Path:
        return self.folder / "oof_stage1.csv"

    @property
    def oof_stage2_csv(self) -> Path:
        return self.folder / "oof_stage2.csv"

    @property
    def oof_stage2_header_csv(self) -> Path:
        """As oof_stage2_csv, but stage 2 gets the modality that a header without descriptions would give."""
        return self.folder / "oof_stage2_header.csv"

    @property
    def oof_stage2_calibrated_csv(self) -> Path:
        return self.folder / "oof_stage2_calibrated.csv"

    @property
    def temperature_json(self) -> Path:
        """temperature and checksums of its models: aneurysm/stage2/temperature.py"""
        return self.folder / "temperature.json"

    @property
    def volume3d_split(self) -> Path:
        """The folder of a model of the second system that was trained on the `train` part of a split."""
        return self.folder / "split"

    @property
    def oof_volume3d_csv(self) -> Path:
        return self.folder / "oof_volume3d.csv"

    @property
    def oof_end_to_end_csv(self) -> Path:
        return self.folder / "oof_end_to_end.csv"


WEIGHTS_OF = {"train_stage1.py": "last.pth", "train_stage2.py": "stage2/last.pth", "volume3d.train": "last.pth"}


def trained_folds(encoders: Sequence[ModelPaths], folds: Sequence[int | None], step: str) -> list[int | None]:
    """The `folds` for which all encoders have the weights of a training step, one of WEIGHTS_OF.

    Raises ValueError naming the folders if there is none.
    """
    trained = [fold for fold in folds if all((paths.fold(fold) / WEIGHTS_OF[step]).exists() for paths in encoders)]
    if not trained:
        folders, name = " and ".join(str(paths.folder) for paths in encoders), "fold-<k>"
        if len(folds) == 1:
            name = encoders[0].fold(folds[0]).name
        raise ValueError(f"{folders}: expected {name}/{WEIGHTS_OF[step]}, found none; has {step} run?")
    return trained


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` for a file or folder; renames it to `path` if the block succeeds.

    Raises CannotWrite if the disk is full, read-only or not writable for this user.
    """
    beside = path.parent / f".{path.name}.{socket.gethostname()}.{os.getpid()}.part"
    try:
        with writing_to(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            if beside.is_dir() and path.exists():
                shutil.rmtree(path)
            os.replace(beside, path)
    finally:
        _remove(beside)


class CannotWrite(ValueError):
    """A folder cannot be written to; the message names it and says what to do."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM}  # only for paths in the folder written to: others may be unreadable input


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns an OSError of the block into CannotWrite if it means that `folder` cannot be written to."""
    try:
        yield
    except OSError as error:
        refused = error.errno in _NO_RIGHT and str(error.filename or folder).startswith(str(folder))
        if not (refused or error.errno in _NO_ROOM or error.errno == errno.EROFS):
            raise
        remedy = "make room on this disk" if error.errno in _NO_ROOM else "make it writable"
        raise CannotWrite(
            f"{folder}: expected to write here, found: {os.strerror(error.errno)}; {remedy} and run this again: "
            "what is done stays"
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Removes half-written files of killed runs from a folder."""
    for left in folder.glob(".*.part"):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
