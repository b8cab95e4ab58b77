"""Makes the volume of one series from DICOM, slice by slice, so that memory does not grow with the series.

npy_volume/<uid>.npy       (Z, H, W) in [0, 1], for any plane: Z upward, H to the back, W to the patient's left
npy_volume/<uid>_mask.npy  (Z, H, W) uint8: 0, or 1 + index into LOCATIONS; if the series has a vessel mask
npy_volume/<uid>.json      uid, shape, spacing_mm, origin and axes of the voxels (volume3d/grid.py), plane,
                          window, shift_hu, mask, warnings, settings, fingerprint of files and settings; source: where
                          pixels of the original images lie in the volume (volume3d/localizers.py)
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from aneurysm.cache.head import find_head
from aneurysm.cache.placed_masks import place_series_mask
from aneurysm.cache.preprocess import Outcome, fingerprint_of, outcome_of, warnings_of
from aneurysm.cache.storage import write_npy
from aneurysm.dicom.find import SeriesFiles
from aneurysm.dicom.geometry import Geometry, canonical_axes
from aneurysm.dicom.intensity import Window, mr_window
from aneurysm.dicom.mapping import Crop
from aneurysm.dicom.series import Series, read_series
from aneurysm.folds.manifest import Entry
from aneurysm.paths import DataPaths, atomic_write, writing_to
from volume3d.config import VolumeSettings
from volume3d.grid import Grid, make_grid
from volume3d.windows import voi_window, zscore_window

FORMAT = 2  # incremented when the same DICOM files give another volume


def make_volume(data_dir: Path, entry: Entry, settings: VolumeSettings, cache_dir: Path | None = None) -> Outcome:
    """Makes the volume of one series in `cache_dir` (None: data_dir), unless it is cached.

    Never raises: an error is an Outcome.
    """
    paths, folder = DataPaths(data_dir, cache_dir), data_dir / entry.image_path
    mask = data_dir / entry.segmentation_path if entry.segmentation_path else None

    def work() -> bool:
        fingerprint = f"{FORMAT}-{fingerprint_of(folder, mask, settings)}"
        there = is_made(paths.npy_volume, entry.series_uid, fingerprint)
        if not there:
            _write(paths, entry.series_uid, folder, mask, settings, fingerprint)
        return there

    return outcome_of(entry.series_uid, folder, work)


def is_made(volumes: Path, series_id: str, fingerprint: str) -> bool:
    """Whether a volume was made from these files with these settings, and all its files exist."""
    described, whole, mask = _files(volumes, series_id)
    if not (described.exists() and whole.exists()):
        return False
    try:
        saved = json.loads(described.read_bytes())
        return saved["fingerprint"] == fingerprint and mask.exists() == saved["mask"]
    except (ValueError, KeyError, TypeError):  # truncated, or another file
        return False


def _files(volumes: Path, series_id: str) -> tuple[Path, ...]:
    """Paths of description, volume and mask."""
    return tuple(volumes / f"{series_id}{ending}" for ending in (".json", ".npy", "_mask.npy"))


def _write(
    paths: DataPaths, series_id: str, folder: Path, mask: Path | None, settings: VolumeSettings, fingerprint: str
) -> None:
    """Writes volume, mask and description, in this order: if the description exists, all files are complete."""
    volumes = paths.npy_volume
    described, whole, mask_file = _files(volumes, series_id)
    with writing_to(volumes):
        for path in (described, whole, mask_file):
            path.unlink(missing_ok=True)
    volume, series, grid, window = volume_of(folder, settings)
    _save(whole, volume)
    placed = place_series_mask(mask, series, grid.source_pixels())
    if placed is not None:
        _save(mask_file, np.stack(list(placed.images())))
    with atomic_write(described) as file:
        description = describe(series, series_id, grid, window) | {"mask": placed is not None}
        description |= {"warnings": warnings_of(series, paths.root), "source": source_of(series, grid)}
        file.write_text(json.dumps(description | {"settings": asdict(settings), "fingerprint": fingerprint}))


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as beside:
        write_npy(beside, array)


def volume_of(place: Path | SeriesFiles, settings: VolumeSettings) -> tuple[np.ndarray, Series, Grid, Window]:
    """(Z, H, W) in [0, 1], of the settings' dtype, and what find_volume returns; errors as find_volume."""
    series, grid, window = find_volume(place, settings)
    return resample(series, grid, window).astype(settings.dtype), series, grid, window


def find_volume(place: Path | SeriesFiles, settings: VolumeSettings) -> tuple[Series, Grid, Window]:
    """The series of a folder or of files, cut axially and cropped to the head; its grid; its intensity window.

    Raises ValueError naming the folder if nothing in it can be read.
    """
    series = read_series(place, select=())
    series.geometry = series.geometry.turned_to("axial")
    n_slices, n_rows, n_cols = series.geometry.canonical_shape
    series.crop = Crop(0, n_slices, 0, n_rows, 0, n_cols)  # stays if no head is found
    by_head = zscore_window if settings.mr == "zscore" else mr_window
    ct_window = Window(settings.window_low_hu, settings.window_high_hu)
    window = find_head(series, ct_window, settings.head_mm, mr=by_head)
    if settings.mr == "voi" and series.modality == "MR":
        window = voi_window(series) or window
    return series, grid_of(series.geometry, series.crop, settings, str(series.folder)), window


def grid_of(geometry: Geometry, crop: Crop, settings: VolumeSettings, name: str = "") -> Grid:
    """`make_grid` with these settings."""
    return make_grid(geometry, crop, settings.z_mm, settings.size, settings.pixel_mm, settings.centre, name)


def resample(series: Series, grid: Grid, window: Window) -> np.ndarray:
    """(Z, H, W) float32 in [0, 1], 0 outside the images; values are clipped to the window before averaging."""
    slices, rows, cols = (line.weights() for line in grid.lines)
    rows, cols = rows.astype(np.float32), cols.astype(np.float32)
    slope, intercept = series.scale
    gain, offset = slope / (window.high - window.low), (intercept - window.low) / (window.high - window.low)
    volume = np.zeros(grid.shape, np.float32)
    shares = slices.tocsc()  # column k: weights of the series' slice k in the volume's slices
    used = np.flatnonzero(np.diff(shares.indptr))
    for k, image in zip(used, series.images(used.tolist()), strict=True):
        values = np.clip(image * np.float32(gain) + np.float32(offset), 0, 1)
        plane = (cols @ (rows @ values).T).T
        for place in range(shares.indptr[k], shares.indptr[k + 1]):
            volume[shares.indices[place]] += np.float32(shares.data[place]) * plane
    return np.clip(volume, 0, 1)


def describe(series: Series, series_id: str, grid: Grid, window: Window) -> dict:
    """UID, geometry and intensity window of a volume, for its JSON file; see the top of this file."""
    origin, axes = grid.placement()
    return {
        "SeriesInstanceUID": series_id,
        "shape": list(grid.shape),
        "spacing_mm": [round(mm, 6) for mm in grid.spacing_mm],
        "origin": [round(mm, 6) for mm in origin.tolist()],
        "axes": [[round(part, 9) + 0.0 for part in axis] for axis in axes.tolist()],
        "plane": canonical_axes(series.geometry.orientation)[0],
        "window": [window.low, window.high],
        "shift_hu": series.shift_hu,
    }


def source_of(series: Series, grid: Grid) -> dict:
    """The mapping of a series (see Mapping), and the voxels of its indices along each axis."""
    return asdict(series.mapping) | {"voxels": grid.voxels_of_source()}
