"""Positions of a volume's voxels in the patient, and the weights that compute them from source pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from aneurysm.dicom.geometry import Geometry, shear_mm
from aneurysm.dicom.mapping import Crop

LONGEST_MM = 2000.0  # a greater extent means a damaged position


def line_weights(pixels_mm: np.ndarray, centres_mm: np.ndarray, step_mm: float) -> csr_array:
    """(n, m) weights that compute n samples at `centres_mm` from m values at `pixels_mm`, which increase.

    The values are joined by straight lines. Where samples lie further apart (`step_mm`) than pixels, each is the mean
    of that curve over `step_mm` around its centre, so that no pixel is skipped. Elsewhere it is the curve at its centre
    (linear interpolation). Near the first and the last pixel the mean covers less, equally on both sides: a ramp stays
    the same ramp up to these pixels. Beyond them their values continue. All weights are >= 0, and each row sums to 1.
    """
    width_mm = _widths(pixels_mm, centres_mm, step_mm)
    # The curve is a sum of hat functions times values; a hat is the difference of two ramps from 0 to 1.
    starts, ends = pixels_mm[:-1], pixels_mm[1:]
    ramps = _mean_ramp(starts, ends, centres_mm[:, None], width_mm[:, None])
    ones, zeros = np.ones((len(centres_mm), 1)), np.zeros((len(centres_mm), 1))
    weights = -np.diff(np.hstack([ones, ramps, zeros]), axis=1)
    return csr_array(np.where(weights > 1e-9, weights, 0))


def _widths(pixels_mm: np.ndarray, centres_mm: np.ndarray, step_mm: float) -> np.ndarray:
    """(n,) millimetres that each sample averages; 0 where the pixels around it lie no closer than the samples."""
    if len(pixels_mm) < 2:
        return np.zeros(len(centres_mm))
    before = np.clip(np.searchsorted(pixels_mm, centres_mm) - 1, 0, len(pixels_mm) - 2)
    gap_mm = np.diff(pixels_mm)[before]
    to_end_mm = np.minimum(centres_mm - pixels_mm[0], pixels_mm[-1] - centres_mm).clip(min=0)
    return np.where(step_mm > gap_mm * (1 + 1e-6), np.minimum(step_mm, 2 * to_end_mm), 0.0)


def _mean_ramp(start: np.ndarray, end: np.ndarray, centre: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Mean over `width` around `centre` of a ramp that is 0 up to `start` and 1 from `end` on."""

    def integral(x: np.ndarray) -> np.ndarray:
        inside = np.clip(x - start, 0, end - start)
        return inside**2 / (2 * (end - start)) + np.maximum(x - end, 0)

    at_centre = np.clip((centre - start) / (end - start), 0, 1)
    mean = (integral(centre + width / 2) - integral(centre - width / 2)) / np.where(width > 0, width, 1)
    return np.where(width > 0, mean, at_centre)


@dataclass(frozen=True)
class Line:
    """One axis of a volume and the series' canonical pixels along it, both in the same millimetres.

    centres_mm  (n,) of the voxels, increasing, `step_mm` apart
    pixels_mm   (m,) of the pixels, increasing, evenly spaced or not; usually `pixel_mm` apart
    """

    centres_mm: np.ndarray
    step_mm: float
    pixels_mm: np.ndarray
    pixel_mm: float

    def weights(self) -> csr_array:
        """(n, m), see line_weights; rows of voxels outside the image are empty."""
        inside = np.abs(self.pixel_indices() - (len(self.pixels_mm) - 1) / 2) <= len(self.pixels_mm) / 2
        weights = line_weights(self.pixels_mm, self.centres_mm, self.step_mm)
        return csr_array(weights.multiply(inside[:, None]))

    def pixel_indices(self) -> np.ndarray:
        """(n,) fractional pixel index at each voxel's centre; -0.5 and m - 0.5 are the image's edges."""
        last = len(self.pixels_mm) - 1
        known = np.interp(self.centres_mm, self.pixels_mm, np.arange(last + 1))
        beyond = self.centres_mm - np.clip(self.centres_mm, self.pixels_mm[0], self.pixels_mm[-1])
        return known + beyond / self.pixel_mm

    def voxels_of(self, pixels: np.ndarray) -> np.ndarray:
        """Fractional voxels at pixel indices; linear beyond the first and last voxel."""
        return _along(self.pixel_indices(), np.arange(len(self.centres_mm)), pixels)

    def pixels_of(self, voxels: np.ndarray) -> np.ndarray:
        """Fractional pixel indices at voxels, which may be fractional; linear beyond the first and last voxel."""
        return _along(np.arange(len(self.centres_mm)), self.pixel_indices(), voxels)


def _along(x: np.ndarray, y: np.ndarray, where: np.ndarray) -> np.ndarray:
    """y at `where`, interpolated and extrapolated linearly; x and y increase."""
    if len(x) < 2:
        return y[0] + (where - x[0])
    number = np.clip(np.searchsorted(x, where) - 1, 0, len(x) - 2)
    slope = (y[number + 1] - y[number]) / (x[number + 1] - x[number])
    return y[number] + (where - x[number]) * slope


@dataclass(frozen=True)
class Grid:
    """The voxels of a volume: Z upward, H to the back, W to the patient's left."""

    z: Line
    y: Line
    x: Line
    geometry: Geometry

    @property
    def lines(self) -> tuple[Line, Line, Line]:
        return self.z, self.y, self.x

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(len(line.centres_mm) for line in self.lines)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return tuple(line.step_mm for line in self.lines)

    def source_pixels(self) -> list[np.ndarray]:
        """Source index of each slice, row and column, as Mapping.cached_pixels is for the cache."""
        geometry = self.geometry
        indices = [line.pixel_indices() for line in self.lines]
        turned = zip(indices, geometry.canonical_shape, geometry.flip, strict=True)
        return [n - 1 - index if flip else index for index, n, flip in turned]

    def voxels_of_source(self) -> list[list[float]]:
        """For each axis of the volume, the fractional voxel of every source index along it.

        `geometry.order` gives the axes of the source.
        """
        geometry, found = self.geometry, []
        for line, n, flip in zip(self.lines, geometry.canonical_shape, geometry.flip, strict=True):
            voxels = line.voxels_of(np.arange(n))
            found.append((voxels[::-1] if flip else voxels).round(3).tolist())
        return found

    def voxels_at(self, source: np.ndarray) -> np.ndarray:
        """(..., 3) fractional voxels (slice, row, column) at points (..., 3) of the source: image, row, column.

        Linear beyond the first and last voxel.
        """
        geometry = self.geometry
        axes = zip(self.lines, geometry.order, geometry.canonical_shape, geometry.flip, strict=True)
        return np.stack(
            [line.voxels_of(n - 1 - source[..., i] if flip else source[..., i]) for line, i, n, flip in axes], axis=-1
        )

    def placement(self) -> tuple[np.ndarray, np.ndarray]:
        """(3,) origin and (3, 3) axes: voxel (z, y, x) lies at origin + ((z, y, x) * spacing_mm) @ axes, in LPS.

        The axes are unit vectors, except the stacking axis under gantry tilt: the tilt is not corrected, so that this
        axis is oblique to the others.
        """
        geometry, axes = self.geometry, self.geometry.canonical_directions
        corner_mm = np.array([line.centres_mm[0] for line in self.lines])
        origin, axes = corner_mm @ axes, axes.copy()
        along_mm = geometry.positions @ geometry.normal
        if len(along_mm) > 1:
            stacked = geometry.order.index(0)
            across_mm = shear_mm(geometry.positions, geometry.orientation)[-1] / (along_mm[-1] - along_mm[0])
            drift = across_mm @ geometry.orientation.reshape(2, 3)  # sideways mm per mm along the normal
            sense = -1.0 if geometry.flip[stacked] else 1.0
            origin += (corner_mm[stacked] * sense - along_mm[0]) * drift
            axes[stacked] += sense * drift
        return origin, axes


def make_grid(
    geometry: Geometry, crop: Crop, z_mm: float, size: int, pixel_mm: float = 0.0,
    centre: tuple[float, float] = (0.5, 0.5), name: str = "",
) -> Grid:  # fmt: skip
    """The grid over the `crop` of an axially cut series: slices `z_mm` apart, `size` x `size` pixels over its square.

    With `pixel_mm`, rows and columns are that far apart, around `centre`, given as fractions of the square. Raises
    ValueError with the series' `name` if the crop is too large for a patient.
    """
    low, high = zip(
        _edges_mm(geometry, 0, crop.first, crop.count),
        _edges_mm(geometry, 1, crop.top, crop.height),
        _edges_mm(geometry, 2, crop.left, crop.width),
        strict=True,
    )
    if max(np.subtract(high, low)) > LONGEST_MM:
        raise ValueError(f"{name}: expected a patient, found {max(np.subtract(high, low)):.0f} mm")
    n_slices = max(1, round((high[0] - low[0]) / z_mm))
    z_centres_mm = high[0] - z_mm * (np.arange(n_slices)[::-1] + 0.5)  # counted from the top for any height
    side_mm = max(high[1] - low[1], high[2] - low[2])
    step_mm = pixel_mm or side_mm / size
    centres_mm = step_mm * (np.arange(size) - (size - 1) / 2)
    middle_mm = [(low[axis] + high[axis]) / 2 + (centre[axis - 1] - 0.5) * side_mm for axis in (1, 2)]
    lines = [_line(geometry, 0, z_centres_mm, z_mm)]
    lines += [_line(geometry, axis, middle_mm[axis - 1] + centres_mm, step_mm) for axis in (1, 2)]
    return Grid(*lines, geometry)


def _line(geometry: Geometry, axis: int, centres_mm: np.ndarray, step_mm: float) -> Line:
    return Line(centres_mm, step_mm, geometry.positions_mm(axis), geometry.canonical_spacing[axis])


def _edges_mm(geometry: Geometry, axis: int, first: int, count: int) -> tuple[float, float]:
    """Lower edge of pixel `first` and upper edge of the last of `count` pixels; may lie beyond the image."""
    pixels_mm, numbers = geometry.positions_mm(axis), np.arange(geometry.canonical_shape[axis])
    index = np.array([first - 0.5, first + count - 0.5])
    beyond = index - np.clip(index, 0, numbers[-1])
    low, high = np.interp(index, numbers, pixels_mm) + beyond * geometry.canonical_spacing[axis]
    return float(low), float(high)
