"""One series from DICOM into the cache, done once: files by rename, a fingerprint of what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aneurysm.cache.config import CacheSettings, Storage
from aneurysm.cache.description import damaged_files, file_facts, read_description, write_description
from aneurysm.cache.placed_masks import place_series_mask
from aneurysm.cache.slices import cached_positions_mm, cached_slices, find_slices
from aneurysm.cache.storage import ENDINGS, write_npy, write_slices
from aneurysm.cache.vessel_masks import find_mask
from aneurysm.dicom.folders import files_below
from aneurysm.dicom.intensity import Window
from aneurysm.dicom.mapping import SIZE
from aneurysm.dicom.series import Series, read_series
from aneurysm.escape import escape_control_characters
from aneurysm.paths import CannotWrite, DataPaths, atomic_write, writing_to

FORMAT = 3  # raised when the same DICOM files would give another cache
CANNOT_WRITE = "disk takes no more files"  # the kind of an outcome that is not the series' fault


@dataclass(frozen=True)
class Outcome:
    """What became of one series: `kind` is empty when it is in the cache, else what went wrong, with a message.

    `damage` says what was wrong with its files in the cache, which have been made anew where `kind` is empty.
    """

    series_uid: str
    kind: str = ""
    message: str = ""
    was_cached: bool = False
    damage: tuple[str, ...] = ()


@dataclass(frozen=True)
class _CacheRequest:
    """How a series is cached; see preprocess_series."""

    slices: bool
    storage: Storage
    verify: bool


def preprocess_series(
    data_dir: Path,
    series_uid: str,
    settings: CacheSettings,
    slices: bool,
    storage: Storage = "float16",
    verify: bool = False,
    cache_dir: Path | None = None,
) -> Outcome:
    """Brings one series into the cache in `cache_dir` (None: data_dir), unless it is there already.

    Never raises: an error is an Outcome.

    `slices` writes one file per slice besides; `storage` is the form of series file and vessel mask; `verify` compares
    every byte of what is there already with its checksum, which is otherwise trusted where the size is right.
    """
    paths, request = DataPaths(data_dir, cache_dir), _CacheRequest(slices, storage, verify)
    damage: list[str] = []

    def work() -> bool:
        saved = _saved(paths, series_uid, verify, damage)  # first: damage is said even where the DICOM files are gone
        fingerprint = fingerprint_of(paths.series / series_uid, find_mask(paths, series_uid), settings)
        was_cached = saved is not None and not damage and _is_cached(paths, series_uid, saved, fingerprint, request)
        if not was_cached:
            with writing_to(paths.cache):
                _remove(paths, series_uid, slices=saved is None or saved["fingerprint"] != fingerprint)
            try:
                _write(paths, series_uid, settings, request, fingerprint)
            except CannotWrite:
                with suppress(OSError):
                    _remove(paths, series_uid, slices=True)  # what was written before the disk was full
                raise
        return was_cached

    return replace(outcome_of(series_uid, paths.series / series_uid, work), damage=tuple(damage))


def outcome_of(series_uid: str, folder: Path, work: Callable[[], bool]) -> Outcome:
    """The outcome of `work`, which makes something of the series in `folder`, or says True where it is there already.

    Never raises.
    """
    cv2.setNumThreads(1)
    try:
        return Outcome(series_uid, was_cached=work())
    except CannotWrite as error:
        return Outcome(series_uid, CANNOT_WRITE, str(error))
    except ValueError as error:
        return Outcome(series_uid, "unreadable series", escape_control_characters(str(error)))
    except FileNotFoundError as error:
        return Outcome(series_uid, "missing folder", str(error))
    except Exception as error:  # whatever one series brings, the others go on, and it is counted
        return Outcome(series_uid, type(error).__name__, escape_control_characters(f"{folder}: {error}"))


def died(series_uid: str) -> Outcome:
    """The outcome of a series whose worker process was killed (out of memory, a crash in a decoder)."""
    return Outcome(series_uid, "worker died", f"series {series_uid}: its worker process was killed twice")


def fingerprint_of(folder: Path, mask: Path | None, settings: Any) -> str:
    """Changes when a DICOM file or the vessel mask is added, removed or written anew, or a setting (dataclass) changes.

    Raises FileNotFoundError where there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    files = files_below(folder) + ([mask] if mask else [])
    stats = ((os.path.relpath(file, folder), os.stat(file)) for file in files)
    facts = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return hashlib.sha256(json.dumps([FORMAT, asdict(settings), facts]).encode()).hexdigest()


def _saved(paths: DataPaths, series_uid: str, verify: bool, damage: list[str]) -> dict | None:
    """The description of a series that is in the cache; sentences on files that are damaged go to `damage`."""
    described = paths.npy_sequence / f"{series_uid}.json"
    if not described.exists():
        return None
    try:
        saved = read_description(described)
        damage.extend(damaged_files(paths, saved, verify))
    except ValueError as error:
        damage.append(str(error))
        return None
    return saved


def _is_cached(paths: DataPaths, series_uid: str, saved: dict, fingerprint: str, request: _CacheRequest) -> bool:
    """Whether a series was cached from these files with these settings in this form, and all its files are there."""
    if saved["fingerprint"] != fingerprint:
        return False
    if request.slices and not (paths.npy_slice / series_uid).is_dir():
        return False
    folders = [paths.npy_sequence, *([paths.npy_vessels] if saved["meta"]["vessels"] else [])]
    return all(_stored(folder, series_uid, request).exists() for folder in folders)


def _stored(folder: Path, series_uid: str, request: _CacheRequest) -> Path:
    return folder / f"{series_uid}{ENDINGS[request.storage]}"


def _write(
    paths: DataPaths, series_uid: str, settings: CacheSettings, request: _CacheRequest, fingerprint: str
) -> None:
    """Slice files, series file, vessels, description: in this order, so that a description vouches for the rest."""
    series = read_series(paths.series / series_uid, select=())
    window = find_slices(series, settings)
    written = _write_series(paths, series_uid, series, window, request)
    mask = place_series_mask(find_mask(paths, series_uid), series)
    if mask is not None:
        path = _stored(paths.npy_vessels, series_uid, request)
        with atomic_write(path) as beside:
            crc32 = write_slices(beside, request.storage, np.uint8, len(mask.slices), mask.images())
        written |= file_facts(paths, path, crc32)
    description = {"fingerprint": fingerprint, "settings": asdict(settings), "files": written}
    description |= describe(series, series_uid, window, warnings_of(series, paths.root), vessels=mask is not None)
    write_description(paths.npy_sequence / f"{series_uid}.json", description)


def _remove(paths: DataPaths, series_uid: str, slices: bool) -> None:
    """The description first, then series file and vessel mask in either form, and the files of single `slices`.

    These may stay where they are of the same DICOM files and settings; others would be taken for such in a later run.
    """
    (paths.npy_sequence / f"{series_uid}.json").unlink(missing_ok=True)
    for folder, ending in product((paths.npy_sequence, paths.npy_vessels), ENDINGS.values()):
        (folder / f"{series_uid}{ending}").unlink(missing_ok=True)
    if slices and (paths.npy_slice / series_uid).exists():
        shutil.rmtree(paths.npy_slice / series_uid)


def _write_series(paths: DataPaths, series_uid: str, series: Series, window: Window, request: _CacheRequest) -> dict:
    """The series file, slice by slice, so that memory does not grow with the series; slice files where asked for."""
    path = _stored(paths.npy_sequence, series_uid, request)
    images = cached_slices(series, window, range(series.crop.count))
    with ExitStack() as stack:
        whole = stack.enter_context(atomic_write(path))
        if request.slices:
            images = _each_kept(images, stack.enter_context(atomic_write(paths.npy_slice / series_uid)))
        crc32 = write_slices(whole, request.storage, np.float16, series.crop.count, images)
    return file_facts(paths, path, crc32)


def _each_kept(images: Iterable[np.ndarray], folder: Path) -> Iterator[np.ndarray]:
    """The images, each of which is written to a file of its own on its way."""
    folder.mkdir()
    for index, image in enumerate(images):
        write_npy(folder / f"{index:04d}.npy", image)
        yield image


def warnings_of(series: Series, root: Path) -> list[str]:
    """The series' warnings, where files of the series or others below `root` go by their names from there, and
    bytes that are no text are spelt out."""
    short = (warning.replace(f"{series.folder}/", "").replace(f"{root}/", "") for warning in series.warnings)
    return list(map(escape_control_characters, short))


def describe(series: Series, series_uid: str, window: Window, warnings: list[str], vessels: bool) -> dict:
    """What the cache knows of a series besides its pixels: the row of train_meta.csv, slice positions, mapping."""
    geometry, crop = series.geometry, series.crop
    slice_mm, row_mm, col_mm = (round(mm, 6) for mm in geometry.canonical_spacing)
    meta = {
        "SeriesInstanceUID": series_uid,
        "patient_id": series.patient_id,
        "series_type": series.type,
        "modality": series.modality,
        "plane": geometry.plane,
        "resliced": geometry.resliced,
        "n_images": geometry.shape[0],
        "n_slices": crop.count,
        "rows": geometry.shape[1],
        "cols": geometry.shape[2],
        "slice_mm": slice_mm,
        "row_mm": row_mm,
        "col_mm": col_mm,
        "cached_row_mm": row_mm * crop.height / SIZE,
        "cached_col_mm": col_mm * crop.width / SIZE,
        **{f"crop_{name}": value for name, value in asdict(crop).items()},
        "window_low": window.low,
        "window_high": window.high,
        "shift_hu": series.shift_hu,
        "vessels": vessels,
        "warnings": " | ".join(warnings),
    }
    return {"meta": meta, "position_mm": cached_positions_mm(series).tolist(), "mapping": asdict(series.mapping)}
