"""One series from DICOM into the cache, done once: files by rename, a fingerprint of what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aneurysm.data.intensity import Window
from aneurysm.data.mapping import SIZE
from aneurysm.data.placed_masks import PlacedMask, place_series_mask
from aneurysm.data.series import Series, read_series
from aneurysm.data.slices import CacheSettings, cached_positions_mm, cached_slices, find_slices
from aneurysm.data.vessel_masks import find_mask
from aneurysm.paths import DataPaths, files_below, written_whole

FORMAT = 2  # raised when the same DICOM files would give another cache


@dataclass(frozen=True)
class Outcome:
    """What became of one series: `kind` is empty when it is in the cache, else what went wrong, with a message."""

    series_uid: str
    kind: str = ""
    message: str = ""
    was_cached: bool = False


def preprocess_series(data_dir: Path, series_uid: str, settings: CacheSettings, slices: bool) -> Outcome:
    """Brings one series into the cache, unless it is there already. Never raises: an error is an Outcome."""
    paths = DataPaths(data_dir)

    def work() -> bool:
        fingerprint = fingerprint_of(paths.series / series_uid, find_mask(paths, series_uid), settings)
        was_cached = _is_cached(paths, series_uid, fingerprint, slices)
        if not was_cached:
            _write(paths, series_uid, settings, slices, fingerprint)
        return was_cached

    return outcome_of(series_uid, paths.series / series_uid, work)


def outcome_of(series_uid: str, folder: Path, work: Callable[[], bool]) -> Outcome:
    """The outcome of `work`, which makes something of the series in `folder`, or says True where it is there already.

    Never raises.
    """
    cv2.setNumThreads(1)
    try:
        return Outcome(series_uid, was_cached=work())
    except ValueError as error:
        return Outcome(series_uid, "unreadable series", str(error))
    except FileNotFoundError as error:
        return Outcome(series_uid, "missing folder", str(error))
    except Exception as error:  # whatever one series brings, the others go on, and it is counted
        return Outcome(series_uid, type(error).__name__, f"{folder}: {error}")


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


def _is_cached(paths: DataPaths, series_uid: str, fingerprint: str, slices: bool) -> bool:
    described, whole = (paths.npy_sequence / f"{series_uid}.{ending}" for ending in ("json", "npy"))
    if not (described.exists() and whole.exists()):
        return False
    saved = json.loads(described.read_text())
    if saved["fingerprint"] != fingerprint or (slices and not (paths.npy_slice / series_uid).is_dir()):
        return False
    return not saved["meta"]["vessels"] or (paths.npy_vessels / f"{series_uid}.npy").exists()


def _write(paths: DataPaths, series_uid: str, settings: CacheSettings, slices: bool, fingerprint: str) -> None:
    """Slice files, series file, vessels, description: in this order, so that a description vouches for the rest."""
    described = paths.npy_sequence / f"{series_uid}.json"
    described.unlink(missing_ok=True)
    series = read_series(paths.series / series_uid, select=())
    window = find_slices(series, settings)
    with written_whole(paths.npy_sequence / f"{series_uid}.npy") as whole:
        if slices:
            with written_whole(paths.npy_slice / series_uid) as folder:
                folder.mkdir()
                _write_slices(series, window, whole, folder)
        else:
            _write_slices(series, window, whole, None)
    mask = place_series_mask(find_mask(paths, series_uid), series)
    _write_vessels(mask, paths.npy_vessels / f"{series_uid}.npy")
    description = {"fingerprint": fingerprint, "settings": asdict(settings)}
    description |= describe(series, series_uid, window, warnings_of(series, paths.root), vessels=mask is not None)
    with written_whole(described) as file:
        file.write_text(json.dumps(description))


def _write_slices(series: Series, window: Window, whole: Path, folder: Path | None) -> None:
    """The series file, slice by slice, so that memory does not grow with the series; slice files where asked for."""
    with open(whole, "wb", buffering=0) as file:
        _begin_npy(file, "<f2", series.crop.count)
        for index, image in enumerate(cached_slices(series, window, range(series.crop.count))):
            _append(file, image)
            if folder is not None:
                np.save(folder / f"{index:04d}.npy", image)


def _write_vessels(mask: PlacedMask | None, path: Path) -> None:
    if mask is None:
        path.unlink(missing_ok=True)
        return
    with written_whole(path) as beside, open(beside, "wb", buffering=0) as file:
        _begin_npy(file, "|u1", len(mask.slices))
        for image in mask.images():
            _append(file, image)


def _begin_npy(file: FileIO, descr: str, n_slices: int) -> None:
    header = {"descr": descr, "fortran_order": False, "shape": (n_slices, SIZE, SIZE)}
    np.lib.format.write_array_header_1_0(file, header)


def _append(file: FileIO, image: np.ndarray) -> None:
    if file.write(memoryview(image).cast("B")) != image.nbytes:
        raise OSError(f"{file.name}: the disk is full")


def warnings_of(series: Series, root: Path) -> list[str]:
    """The series' warnings, where files of the series or others below `root` go by their names from there."""
    return [warning.replace(f"{series.folder}/", "").replace(f"{root}/", "") for warning in series.warnings]


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
