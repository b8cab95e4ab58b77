"""Resamples a vessel mask to the slices, rows and columns of the cache, or to another grid in the series.

Patient coordinates place the mask: cache pixel -> source index -> millimetres -> nearest mask voxel. A mask with the
shape of the series was drawn on its images. If patient coordinates put such a mask elsewhere (multi-frame files without
positions, wrong pixel spacing, unevenly spaced slices), voxels and pixels are matched one to one instead, both in
canonical orientation (the mask's from its affine).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from aneurysm.cache.vessel_masks import VesselMask, read_mask
from aneurysm.dicom.geometry import turn_axes
from aneurysm.dicom.series import Series

MEET_VOXELS = 0.5  # patient coordinates are used if they differ from one-to-one matching by at most this
MEET_SHARE = 0.9  # if the shapes differ, at least this share of the vessels must lie inside the series
ROUNDING = 1e-3  # of a voxel: halfway between two voxels the upper one is used, despite rounding errors


@dataclass(frozen=True)
class ResampledMask:
    """A mask on a new grid: pixel (k, i, j) takes the voxel nearest to slices[k] + rows[i] + cols[j].

    box         uint8, the box around the vessels with a rim of background: 0, or 1 + index into LOCATIONS
    slices      (slices of the grid, 3) in voxels of the box
    rows, cols  (n, 3) the same, for the rows and columns `shown`
    shown       rows and columns of the grid that lie in the image, not in its padding
    size        number of rows and of columns of the grid
    """

    box: np.ndarray
    slices: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    shown: tuple[slice, slice]
    size: tuple[int, int]

    def images(self) -> Iterator[np.ndarray]:
        """`size` uint8 for each slice: 0, or 1 + index into LOCATIONS."""
        for start in self.slices:
            image = np.zeros(self.size, np.uint8)
            # Vessels fill a few per cent of the head: only rows and columns that can contain them are looked up.
            rows, cols = self._near(start + self.rows, self.cols), self._near(start + self.cols, self.rows)
            if rows.stop and cols.stop:
                image[self.shown][rows, cols] = self._nearest(start + self.rows[rows], self.cols[cols])
            yield image

    def _near(self, lines: np.ndarray, across: np.ndarray) -> slice:
        """The range of `lines` (rows or columns of a slice) that meet the box somewhere along `across`."""
        low, high = lines + across.min(0), lines + across.max(0)
        met = np.flatnonzero(((high > -1) & (low < self.box.shape)).all(1))
        return slice(met[0], met[-1] + 1) if len(met) else slice(0, 0)

    def _nearest(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """(rows, cols) values of the box; an axis that depends only on rows or only on columns is looked up in 1D."""
        index = np.zeros((1, 1), np.int32)
        for axis in (2, 1, 0):
            row, col = rows[:, axis, None], cols[None, :, axis]
            row = row[:1] if np.ptp(row) < ROUNDING else row
            col = col[:, :1] if np.ptp(col) < ROUNDING else col
            voxel = np.floor((row + (0.5 + ROUNDING)).astype(np.float32) + col.astype(np.float32))
            length = self.box.shape[axis]
            index = index * length + np.clip(voxel, 0, length - 1).astype(np.int32)
        return self.box.ravel(order="F")[index]


def place_series_mask(
    path: Path | None, series: Series, pixels: Sequence[np.ndarray] | None = None
) -> ResampledMask | None:
    """The vessel mask of a series; None if it has none, or an unusable one, which adds a warning to the series.

    `pixels` as in `place_mask`.
    """
    messages, placed = [], None
    if path is not None:
        try:
            placed = place_mask(read_mask(path, messages), series, messages, pixels)
        except ValueError as error:
            messages.append(f"no vessel mask: {error}")
    series.warnings += messages
    return placed


def place_mask(
    mask: VesselMask, series: Series, warnings: list[str], pixels: Sequence[np.ndarray] | None = None
) -> ResampledMask:
    """The mask on the grid of the cache (`series.crop`); adds a warning if patient coordinates are wrong.

    `pixels` gives another grid of slices, rows and columns, see Mapping.cached_pixels. Raises ValueError naming the
    file if patient coordinates are wrong and the mask does not have the shape of the series.
    """
    pixels = series.mapping.cached_pixels() if pixels is None else pixels
    size = (len(pixels[1]), len(pixels[2]))
    pixels, shown = _shown_pixels(series, pixels)
    ways, one_to_one = _by_position(mask, series, pixels), _one_to_one(mask, series, pixels)
    if one_to_one is not None:
        apart = _voxels_apart(ways, one_to_one)
        if apart > MEET_VOXELS:
            ways = one_to_one
            warnings.append(
                f"{mask.path}: expected where the images lie, found up to {apart:.1f} voxels away: matched one to one"
            )
    elif (share := _share_inside(mask, series)) < MEET_SHARE:
        plane, (n_slices, rows, cols) = series.geometry.plane, series.geometry.canonical_shape
        raise ValueError(
            f"{mask.path}: expected to lie in the series or to have its {n_slices} {plane} slices of {rows} x {cols}, "
            f"found {share:.0%} of the vessels inside and {' x '.join(map(str, mask.shape))} voxels"
        )
    return _boxed(mask, ways, shown, size)


def _shown_pixels(series: Series, pixels: Sequence[np.ndarray]) -> tuple[list[np.ndarray], tuple[slice, slice]]:
    """Source indices of the slices, rows and columns without padding, and the slices `shown` of rows and columns."""
    slices, *lines = pixels
    inner, shown = [slices], []
    for line, length in zip(lines, series.geometry.canonical_shape[1:], strict=True):
        inside = np.flatnonzero((line >= -0.5) & (line <= length - 0.5))
        shown.append(slice(inside[0], inside[-1] + 1))
        inner.append(np.clip(line[shown[-1]], 0, length - 1))  # the outer half of the outermost pixel
    return inner, tuple(shown)


def _by_position(mask: VesselMask, series: Series, pixels: list[np.ndarray]) -> list[np.ndarray]:
    """(n, 3) mask voxels for the slices, rows and columns of the grid, to be summed; by patient coordinates."""
    to_voxel, geometry = np.linalg.inv(mask.affine), series.geometry
    parts_mm = [geometry.part_mm(axis, indices) for axis, indices in zip(geometry.order, pixels, strict=True)]
    slices, rows, cols = (part_mm @ to_voxel[:3, :3].T for part_mm in parts_mm)
    return [slices + to_voxel[:3, 3], rows, cols]


def _one_to_one(mask: VesselMask, series: Series, pixels: list[np.ndarray]) -> list[np.ndarray] | None:
    """The same by matching voxels and pixels one to one; None if mask and series differ in shape."""
    geometry = series.geometry
    _, order, flip = turn_axes(mask.directions, geometry.plane)
    if tuple(mask.shape[axis] for axis in order) != geometry.canonical_shape:
        return None
    ways = [np.zeros((len(indices), 3)) for indices in pixels]
    for i, (way, indices) in enumerate(zip(ways, pixels, strict=True)):
        against = flip[i] != geometry.flip[i]
        way[:, order[i]] = mask.shape[order[i]] - 1 - indices if against else indices
    return ways


def _voxels_apart(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """The largest difference along one axis between the voxels that the two methods give for a pixel of the grid."""
    differences = [one - other for one, other in zip(a, b, strict=True)]
    high, low = (sum(extreme(part, axis=0) for part in differences) for extreme in (np.max, np.min))
    return float(np.maximum(high, -low).max())


def _share_inside(mask: VesselMask, series: Series) -> float:
    """Share of the mask's vessels that lie in the box around the series' images."""
    geometry = series.geometry
    axes = np.stack([geometry.normal, geometry.orientation[3:], geometry.orientation[:3]])
    last = np.array(geometry.shape) - 1
    corners = np.array([geometry.to_patient(last * corner) for corner in product((0, 1), repeat=3)]) @ axes.T
    vessels, half = mask.points_mm() @ axes.T, np.array(geometry.spacing) / 2
    inside = (vessels >= corners.min(0) - half) & (vessels <= corners.max(0) + half)
    return float(inside.all(axis=1).mean())


def _boxed(
    mask: VesselMask, ways: list[np.ndarray], shown: tuple[slice, slice], size: tuple[int, int]
) -> ResampledMask:
    low, high = mask.voxels.min(0), mask.voxels.max(0)
    box = np.zeros(high - low + 3, np.uint8, order="F")  # as in NIfTI files, so that a row of pixels is contiguous
    box[tuple((mask.voxels - low + 1).T)] = mask.numbers
    slices, rows, cols = ways
    return ResampledMask(box, slices - low + 1, rows, cols, shown, size)
