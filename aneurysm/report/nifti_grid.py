"""Resamples volumes to the even, orthogonal grids that NIfTI viewers can show, and computes their affine.

A stack of images with evenly spaced slices and no shear (gantry tilt) is on such a grid already: its values do not
change. Other stacks are interpolated linearly: ITK refuses files whose axes are not orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.dicom.geometry import Geometry

EXACT_MM = 0.01  # tolerated deviation from the even grid
MOST_SLICES = 4  # times the original number, at most, if distances differ


@dataclass(frozen=True)
class ResampledVolume:
    """Voxels (slices, rows, columns) and their position in a series.

    slices, rows, columns  (n,) fractional source indices of `geometry` each
    blank                  value where a grid extends beyond the voxels
    """

    voxels: np.ndarray
    slices: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    geometry: Geometry
    blank: float = 0.0

    def increasing(self) -> ResampledVolume:
        """The same with each axis in the direction of the source axis."""
        voxels, indices = self.voxels, [self.slices, self.rows, self.columns]
        for axis, own in enumerate(indices):
            if own[0] > own[-1]:
                voxels, indices[axis] = np.flip(voxels, axis), own[::-1]
        return ResampledVolume(voxels, *indices, self.geometry, self.blank)

    def with_even_pixels(self) -> ResampledVolume:
        """The same with evenly spaced rows and columns, which must increase; in maps of re-sliced series they can be
        uneven."""
        voxels, indices = self.voxels, [self.slices, self.rows, self.columns]
        for axis in (1, 2):
            own, even = indices[axis], np.linspace(indices[axis][0], indices[axis][-1], len(indices[axis]))
            if np.abs(own - even).max() * self.geometry.spacing[axis] > EXACT_MM:
                indices[axis] = _even_places(own)
                voxels = np.moveaxis(_between(np.moveaxis(voxels, axis, 0), own, indices[axis]), 0, axis)
        return ResampledVolume(voxels, *indices, self.geometry, self.blank)


@dataclass(frozen=True)
class Grid:
    """Voxels (columns, rows, slices), as NIfTI orders them, and their affine to millimetres in the patient (RAS);
    `resampled` is the reason why slices were interpolated, "" if they were not."""

    voxels: np.ndarray
    affine: np.ndarray
    resampled: str


def even_grid(volume: ResampledVolume) -> Grid:
    """The volume on an even grid with orthogonal axes: those of the series' images and their normal."""
    volume = volume.increasing().with_even_pixels()
    geometry = volume.geometry
    offsets = _slice_places(geometry, volume.slices)
    along_mm = offsets @ geometry.normal
    even_mm = np.linspace(along_mm[0], along_mm[-1], len(along_mm))
    sheared_mm = (offsets - offsets[0]) @ np.stack([geometry.orientation[3:], geometry.orientation[:3]]).T
    reasons = ["distances between slices differ"] if np.abs(along_mm - even_mm).max() > EXACT_MM else []
    reasons += ["slices are shifted against each other (gantry tilt)"] if np.abs(sheared_mm).max() > EXACT_MM else []
    voxels, corner = volume.voxels, np.zeros(2)
    if reasons:
        even_mm = _even_places(along_mm)
        voxels, corner = _resampled(volume, along_mm, even_mm, sheared_mm)
    return Grid(voxels.transpose(2, 1, 0), _affine(volume, even_mm, offsets[0], corner), " and ".join(reasons))


def _slice_places(geometry: Geometry, slices: np.ndarray) -> np.ndarray:
    """(n, 3) positions of the first pixels of (fractional) source slices; extrapolated beyond the ends."""
    positions, n_images = geometry.positions, len(geometry.positions)
    gap = geometry.normal * geometry.spacing[0]
    first, last = (positions[1] - positions[0], positions[-1] - positions[-2]) if n_images > 1 else (gap, gap)
    inside = geometry.part_mm(0, slices)
    before, after = np.minimum(slices, 0), np.maximum(slices - (n_images - 1), 0)
    return inside + before[:, None] * first + after[:, None] * last


def _affine(volume: ResampledVolume, even_mm: np.ndarray, first: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """(4, 4) from (column, row, slice) to RAS; `corner` is the grid's first row and column relative to the volume's."""
    geometry = volume.geometry
    steps = [_step(volume.rows) * geometry.spacing[1], _step(volume.columns) * geometry.spacing[2]]
    gap = even_mm[1] - even_mm[0] if len(even_mm) > 1 else geometry.spacing[0]
    row, column = geometry.orientation[3:] * steps[0], geometry.orientation[:3] * steps[1]
    origin = first + geometry.part_mm(1, volume.rows[:1])[0] + geometry.part_mm(2, volume.columns[:1])[0]
    affine = np.eye(4)
    affine[:3] = np.stack([column, row, gap * geometry.normal, origin + corner[0] * row + corner[1] * column], axis=1)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS to RAS


def _step(indices: np.ndarray) -> float:
    return (indices[-1] - indices[0]) / (len(indices) - 1) if len(indices) > 1 else 1.0


def _even_places(along: np.ndarray) -> np.ndarray:
    """From the first to the last position, spaced about as the closest two."""
    n_even = min(round((along[-1] - along[0]) / np.diff(along).min()) + 1, MOST_SLICES * len(along))
    return np.linspace(along[0], along[-1], n_even)


def _neighbours(along: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each wanted position the index of the one below it, and the fraction of the way to the next, 0 to 1."""
    below = np.clip(np.searchsorted(along, wanted, side="right") - 1, 0, len(along) - 2)
    return below, np.clip((wanted - along[below]) / (along[below + 1] - along[below]), 0, 1)


def _between(voxels: np.ndarray, along: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(wanted, ...) float32 voxels, interpolated along their first axis, whose positions are `along`."""
    below, share = _neighbours(along, wanted)
    share = share.astype(np.float32).reshape(-1, *[1] * (voxels.ndim - 1))
    return (1 - share) * voxels[below] + share * voxels[below + 1]


def _resampled(
    volume: ResampledVolume, along_mm: np.ndarray, even_mm: np.ndarray, sheared_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(slices, rows, columns) float32 at `even_mm`, with each source slice shifted by its shear (rows, columns); and
    the grid's first row and column relative to the volume's, 0 or negative."""
    pixel_mm = np.array(volume.geometry.spacing[1:]) * (_step(volume.rows), _step(volume.columns))
    moved = sheared_mm / pixel_mm
    moved[np.abs(moved) * pixel_mm < EXACT_MM / 10] = 0  # rounding, not tilt
    corner = np.floor(moved.min(axis=0)).astype(int)
    size = np.ceil(moved.max(axis=0)).astype(int) - corner + volume.voxels.shape[1:]
    below, share = _neighbours(along_mm, even_mm)
    out = np.empty((len(even_mm), *size), np.float32)
    placed: dict[int, np.ndarray] = {}
    for number, (slice_, part) in enumerate(zip(below.tolist(), share.tolist(), strict=True)):
        placed = {i: placed[i] for i in (slice_, slice_ + 1) if i in placed}
        for i in (slice_, slice_ + 1):
            if i not in placed:
                placed[i] = _moved(volume.voxels[i], moved[i] - corner, tuple(size), volume.blank)
        out[number] = (1 - part) * placed[slice_] + part * placed[slice_ + 1]
    return out, corner


def _moved(image: np.ndarray, by: np.ndarray, size: tuple[int, int], blank: float) -> np.ndarray:
    """(size) float32 with the image shifted by `by` (rows, columns), fractions interpolated."""
    out = np.full(size, blank, np.float32)
    whole, (down, right) = np.floor(by).astype(int), by - np.floor(by)
    rows, columns = (slice(start, start + n) for start, n in zip(whole, image.shape, strict=True))
    out[rows, columns] = image
    for axis, part in ((0, down), (1, right)):
        if part:
            before = np.pad(out, [(1, 0), (0, 0)] if axis == 0 else [(0, 0), (1, 0)], constant_values=blank)
            out = (1 - part) * out + part * before[: size[0], : size[1]]
    return out
