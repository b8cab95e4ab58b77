"""Where files lie below the data folder and that of the cache, and how a file gets there whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataPaths:
    """The files of the competition, below `root`, and what the scripts make of them, below `cache`."""

    root: Path
    cache_dir: Path | None = None

    @property
    def cache(self) -> Path:
        """The folder of all that is written: what --cache_dir says, else that of the data."""
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
        """<uid>/<uid>_cowseg.nii, in some copies without the folder <uid>; .nii.gz as well"""
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


VOLUME3D = "volume3d"  # stands for the encoder in the folder of the second system's models


@dataclass(frozen=True)
class ModelPaths:
    """What the training scripts leave below the model folder, for one encoder."""

    root: Path
    encoder: str

    @property
    def folder(self) -> Path:
        """<model_dir>/<encoder>/"""
        return self.root / re.sub(r"[^\w.-]+", "_", self.encoder)

    def fold(self, fold: int | None) -> Path:
        """fold-<k>/, whose models have not seen fold k; fold-none/ (None) for models of all series"""
        return self.folder / f"fold-{'none' if fold is None else fold}"

    def stage1(self, fold: int | None) -> Path:
        """The weights of stage 1 that later steps use."""
        return self.fold(fold) / "last.pth"

    def features(self, fold: int | None) -> Path:
        """<uid>.safetensors: what the stage 1 that has not seen `fold` says about the slices of a series."""
        return self.fold(fold) / "features"

    def stage2(self, fold: int | None) -> Path:
        """The folder of a stage 2 that has not seen `fold`: last.pth (the one to use), best.pth, history.csv, ..."""
        return self.fold(fold) / "stage2"

    @classmethod
    def only_one(cls, root: Path, encoder: str) -> ModelPaths:
        """Those of `encoder`, or, where that is empty, of the only one in the folder; ValueError where there is no one.

        The name of the folder stands for that of the encoder; that of the second system is none.
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
        """The same, where stage 2 was told the modality as by a header without descriptions."""
        return self.folder / "oof_stage2_header.csv"

    @property
    def oof_stage2_calibrated_csv(self) -> Path:
        return self.folder / "oof_stage2_calibrated.csv"

    @property
    def temperature_json(self) -> Path:
        """aneurysm/stage2/calibration.py"""
        return self.folder / "temperature.json"

    @property
    def volume3d_split(self) -> Path:
        """The folder of a model of the second system that was trained on the `train` of a split."""
        return self.folder / "split"

    @property
    def oof_volume3d_csv(self) -> Path:
        return self.folder / "oof_volume3d.csv"

    @property
    def oof_end_to_end_csv(self) -> Path:
        return self.folder / "oof_end_to_end.csv"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file or folder to; it becomes `path` by rename when the block ends well.

    Raises CannotWrite where the disk is full, read-only or closed to this user.
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
    """A folder that takes no more files, whichever: the message names it and says what to do."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM}  # of files that are written only: one that cannot be read is another matter


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns an OSError of the block that says that `folder` takes no more files into CannotWrite."""
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
    """Removes what killed runs have left half written in a folder."""
    for left in folder.glob(".*.part"):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
