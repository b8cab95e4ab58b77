"""Preprocesses one series from DICOM into the cache, unless a fingerprint shows that it is up to date."""

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

FORMAT = 3  # increased when the code gives another cache for the same DICOM files
CANNOT_WRITE = "disk takes no more files"  # kind of an outcome whose cause is the disk, not the series


@dataclass(frozen=True)
class Outcome:
    """The outcome of one series: `kind` is empty if it is in the cache, else the kind of error, with a `message`.

    `damage` lists damaged files found in the cache; they were replaced if `kind` is empty.
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
    """Writes one series to the cache in `cache_dir` (None: data_dir), unless it is there already.

    Never raises: an error is an Outcome. `slices` also writes one file per slice; `storage` is the format of series
    file and vessel mask; `verify` compares the checksum of every cached file, instead of its size alone.
    """
    paths, request = DataPaths(data_dir, cache_dir), _CacheRequest(slices, storage, verify)
    damage: list[str] = []

    def work() -> bool:
        saved = _saved(paths, series_uid, verify, damage)  # first: reports damage even if the DICOM files are gone
        fingerprint = fingerprint_of(paths.series / series_uid, find_mask(paths, series_uid), settings)
        was_cached = saved is not None and not damage and _is_cached(paths, series_uid, saved, fingerprint, request)
        if not was_cached:
            with writing_to(paths.cache):
                _remove(paths, series_uid, slices=saved is None or saved["fingerprint"] != fingerprint)
            try:
                _write(paths, series_uid, settings, request, fingerprint)
            except CannotWrite:
                with suppress(OSError):
                    _remove(paths, series_uid, slices=True)  # the files written before the disk was full
                raise
        return was_cached

    return replace(outcome_of(series_uid, paths.series / series_uid, work), damage=tuple(damage))


def outcome_of(series_uid: str, folder: Path, work: Callable[[], bool]) -> Outcome:
    """The outcome of `work`, which processes the series in `folder` and returns True if it was cached already.

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
    except Exception as error:  # no error of one series may stop the others
        return Outcome(series_uid, type(error).__name__, escape_control_characters(f"{folder}: {error}"))


def died(series_uid: str) -> Outcome:
    """The outcome of a series whose worker process was killed (out of memory, a crash in a decoder)."""
    return Outcome(series_uid, "worker died", f"series {series_uid}: its worker process was killed twice")


def fingerprint_of(folder: Path, mask: Path | None, settings: Any) -> str:
    """A hash that changes when a DICOM file or the vessel mask is added, removed or rewritten, or a setting changes.

    `settings` is a dataclass. Raises FileNotFoundError if `folder` does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    files = files_below(folder) + ([mask] if mask else [])
    stats = ((os.path.relpath(file, folder), os.stat(file)) for file in files)
    facts = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return hashlib.sha256(json.dumps([FORMAT, asdict(settings), facts]).encode()).hexdigest()


def _saved(paths: DataPaths, series_uid: str, verify: bool, damage: list[str]) -> dict | None:
    """The description of a cached series, or None; adds a sentence to `damage` for each damaged file."""
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
    """Whether a series was cached from these files with these settings in this format, and all its files exist."""
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
    """Writes slice files, series file, vessel mask and, last, the description: if it exists, the rest is complete."""
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
    """Removes first the description, then series file and vessel mask in either format, and with `slices` the slice
    files.

    Slice files may stay only if they come from the same DICOM files and settings: a later run would reuse them.
    """
    (paths.npy_sequence / f"{series_uid}.json").unlink(missing_ok=True)
    for folder, ending in product((paths.npy_sequence, paths.npy_vessels), ENDINGS.values()):
        (folder / f"{series_uid}{ending}").unlink(missing_ok=True)
    if slices and (paths.npy_slice / series_uid).exists():
        shutil.rmtree(paths.npy_slice / series_uid)


def _write_series(paths: DataPaths, series_uid: str, series: Series, window: Window, request: _CacheRequest) -> dict:
    """Writes the series file slice by slice, in constant memory, and slice files if requested."""
    path = _stored(paths.npy_sequence, series_uid, request)
    images = cached_slices(series, window, range(series.crop.count))
    with ExitStack() as stack:
        whole = stack.enter_context(atomic_write(path))
        if request.slices:
            images = _each_kept(images, stack.enter_context(atomic_write(paths.npy_slice / series_uid)))
        crc32 = write_slices(whole, request.storage, np.float16, series.crop.count, images)
    return file_facts(paths, path, crc32)


def _each_kept(images: Iterable[np.ndarray], folder: Path) -> Iterator[np.ndarray]:
    """Yields the images and writes each to its own file."""
    folder.mkdir()
    for index, image in enumerate(images):
        write_npy(folder / f"{index:04d}.npy", image)
        yield image


def warnings_of(series: Series, root: Path) -> list[str]:
    """The series' warnings with paths relative to its folder or to `root`, and control characters escaped."""
    short = (warning.replace(f"{series.folder}/", "").replace(f"{root}/", "") for warning in series.warnings)
    return list(map(escape_control_characters, short))


def describe(series: Series, series_uid: str, window: Window, warnings: list[str], vessels: bool) -> dict:
    """The description of a series, apart from its files: row of train_meta.csv, slice positions, mapping."""
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
