"""A series and its aneurysm map as NIfTI files, to overlay in 3D Slicer and ITK-SNAP."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np

from aneurysm.dicom.find import SeriesFiles
from aneurysm.dicom.series import read_series
from aneurysm.inference.sac_map import SacMap
from aneurysm.inference.sampled import SampledSeries
from aneurysm.paths import atomic_write
from aneurysm.report.nifti_grid import Grid, ResampledVolume, even_grid


def write_series_nifti(place: Path | SeriesFiles, out: Path) -> list[str]:
    """Writes all images of a series: Hounsfield units for CT, for MR the stored values with the header's rescale.

    Returns a sentence if values were interpolated. Raises ValueError if the series cannot be read.
    """
    series = read_series(place)
    geometry = series.geometry
    turned = series.pixels[tuple(slice(None, None, -1) if flip else slice(None) for flip in geometry.flip)]
    voxels = turned.transpose(np.argsort(geometry.order))  # (images, rows, columns), as they are stored
    indices = (np.arange(n) for n in geometry.shape)
    grid = even_grid(ResampledVolume(voxels, *indices, geometry, blank=float(voxels.min())))
    if grid.resampled and _is_whole(voxels):  # whole numbers again: a third of the bytes
        grid = replace(grid, voxels=np.rint(grid.voxels))
    _write(grid, out)
    return [f"{out.name} is interpolated: {grid.resampled}"] if grid.resampled else []


def write_map_nifti(sac_map: SacMap, series: SampledSeries, out: Path) -> None:
    """Writes the map on its own pixel grid, in the slices that were encoded; interpolates if these are unevenly spaced
    or the series is tilted."""
    mapping, (rows, columns) = series.mapping, sac_map.rows_and_columns()
    of_cache = mapping.cached_pixels()
    shown = (
        of_cache[0][sac_map.slice],
        *(own[0] + at * (own[1] - own[0]) for own, at in zip(of_cache[1:], (rows, columns), strict=True)),
    )
    place = np.argsort(mapping.order)  # the map's axis for each axis of the source
    voxels = sac_map.probability.transpose(place)
    _write(even_grid(ResampledVolume(voxels, *(shown[axis] for axis in place), series.geometry)), out)


def _write(grid: Grid, out: Path) -> None:
    import nibabel  # imported here: a submission does not have it

    image = nibabel.Nifti1Image(_smallest(grid.voxels), grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code=1)  # the scanner's coordinates
    image.set_qform(grid.affine, code=1)
    with atomic_write(out) as beside:
        beside.write_bytes(gzip.compress(image.to_bytes(), compresslevel=3, mtime=0))  # the same bytes each time


def _smallest(voxels: np.ndarray) -> np.ndarray:
    """int16 if that holds the same values, else float32."""
    limits = np.iinfo(np.int16)
    fits = voxels.min() >= limits.min and voxels.max() <= limits.max and _is_whole(voxels)
    return voxels.astype(np.int16 if fits else np.float32)


def _is_whole(voxels: np.ndarray) -> bool:
    return all(np.array_equal(part, np.rint(part)) for part in voxels)
