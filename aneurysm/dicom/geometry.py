"""Patient coordinates of the pixels of a stack of images, and its canonical orientation.

Source indices are (slice, row, column) of the images as stored, slices sorted along their normal. Canonical indices
are those after flips and transposes to the standard orientation of the plane:

    axial     slices upward, rows to the back, columns to the patient's left
    coronal   slices to the back, rows downward, columns to the patient's left
    sagittal  slices to the patient's left, rows downward, columns to the back
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

# Patient axis (0 left, 1 back, 2 up) and sign of the canonical slice, row and column axes.
CANONICAL = {
    "axial": ((2, 1), (1, 1), (0, 1)),
    "coronal": ((1, 1), (2, -1), (0, 1)),
    "sagittal": ((0, 1), (2, -1), (1, 1)),
}
PLANE_OF_AXIS = {2: "axial", 1: "coronal", 0: "sagittal"}
RESLICE_UP_TO_MM = 2.0  # non-axial stacks with at most this slice spacing are re-sliced to axial
ROUNDING_MM = 1e-4  # of a distance between positions


@dataclass(frozen=True)
class Geometry:
    """A sorted stack of parallel images in the patient (LPS, millimetres) and its canonical orientation.

    shape        (slices, rows, columns) of the source
    positions    (slices, 3) centre of the first pixel of each image
    orientation  (6,) unit direction of increasing column index, then of increasing row index
    spacing      (3,) between source slices (median along the normal), rows and columns
    plane        of the canonical images: axial, coronal or sagittal
    order        order[i] is the source axis that canonical axis i runs along
    flip         flip[i] is True if canonical axis i runs in the opposite direction
    """

    shape: tuple[int, int, int]
    positions: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float, float]
    plane: str
    order: tuple[int, int, int]
    flip: tuple[bool, bool, bool]

    @property
    def resliced(self) -> bool:
        """Whether canonical slices cut through the source images."""
        return self.order[0] != 0

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def canonical_spacing(self) -> tuple[float, float, float]:
        return tuple(self.spacing[axis] for axis in self.order)

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit normal of the source images; slices are sorted along it."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    def to_patient(self, source: np.ndarray) -> np.ndarray:
        """(3,) millimetres (LPS) of one source index (slice, row, column); the slice index is truncated to an integer.

        DICOM PS3.3 equation C.7.6.2.1-1, with each image's own position.
        """
        image, row, column = source
        along_row, along_column = self.orientation[:3], self.orientation[3:]
        return self.positions[int(image)] + column * self.spacing[2] * along_row + row * self.spacing[1] * along_column

    def part_mm(self, axis: int, indices: np.ndarray) -> np.ndarray:
        """(n, 3) contribution in mm of n (fractional) indices on one source axis; the three axes sum to `to_patient`.

        Slice positions are interpolated linearly between images, and constant beyond the first and last one.
        """
        if axis == 0:
            numbers = np.arange(self.shape[0])
            return np.stack([np.interp(indices, numbers, position) for position in self.positions.T], axis=1)
        direction = self.orientation[3:] if axis == 1 else self.orientation[:3]
        return np.asarray(indices, float)[:, None] * self.spacing[axis] * direction

    def slice_positions_mm(self) -> np.ndarray:
        """(canonical slices,) position of each along the slice axis, increasing, in patient coordinates."""
        return self.positions_mm(0)

    def positions_mm(self, axis: int) -> np.ndarray:
        """(n,) position of each index along a canonical axis, increasing: projected on `canonical_directions[axis]`."""
        source = self.order[axis]
        if source == 0:
            along = self.positions @ self.normal
        else:
            direction = self.source_directions[source]
            along = self.positions[0] @ direction + np.arange(self.shape[source]) * self.spacing[source]
        return -along[::-1] if self.flip[axis] else along

    @property
    def source_directions(self) -> np.ndarray:
        """(3, 3) unit direction (LPS) of the source slices, rows and columns."""
        return np.stack([self.normal, self.orientation[3:], self.orientation[:3]])

    @property
    def canonical_directions(self) -> np.ndarray:
        """(3, 3) unit direction (LPS) of the canonical slices, rows and columns."""
        return self.source_directions[list(self.order)] * np.where(self.flip, -1.0, 1.0)[:, None]

    def turned_to(self, plane: str) -> Geometry:
        """The same images, re-sliced in another plane."""
        plane, order, flip = canonical_axes(self.orientation, plane)
        return replace(self, plane=plane, order=order, flip=flip)

    def turned(self, image: np.ndarray) -> np.ndarray:
        """A view of one source image (rows, columns), or of the whole source volume, in canonical orientation."""
        if image.ndim == 2:
            order, flip = [axis - 1 for axis in self.order[1:]], self.flip[1:]
        else:
            order, flip = self.order, self.flip
        image = image.transpose(order)
        return image[tuple(slice(None, None, -1) if f else slice(None) for f in flip)]


def canonical_axes(orientation: np.ndarray, plane: str | None = None) -> tuple[str, tuple, tuple]:
    """Plane, order and flip (see Geometry) for images of this orientation; `plane` forces re-slicing to that plane."""
    along_row, along_column = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    return turn_axes(np.stack([np.cross(along_row, along_column), along_column, along_row]), plane)


def turn_axes(directions: np.ndarray, plane: str | None = None) -> tuple[str, tuple, tuple]:
    """The same for any array: directions[i] is the unit direction (LPS) of its axis i."""
    # Assigns the three axes to patient axes so that the sum of absolute cosines is largest.
    along = np.abs(directions)
    best = max(itertools.permutations(range(3)), key=lambda axes: sum(along[i, a] for i, a in enumerate(axes)))
    plane = plane or PLANE_OF_AXIS[best[0]]
    order = tuple(best.index(axis) for axis, _ in CANONICAL[plane])
    senses = zip(order, CANONICAL[plane], strict=True)
    flip = tuple(bool(directions[o, axis] * sense < 0) for o, (axis, sense) in senses)
    return plane, order, flip


def left_right_in_columns(plane: str) -> bool:
    """Whether the patient's left-right axis runs along the columns of canonical images, not along the slice axis.

    Raises ValueError if `plane` is not axial, coronal or sagittal.
    """
    if plane not in CANONICAL:
        raise ValueError(f"plane {plane!r}: expected one of {', '.join(CANONICAL)}")
    return CANONICAL[plane][2][0] == 0


def make_geometry(
    shape: tuple[int, int, int], positions: np.ndarray, orientation: np.ndarray, pixel_spacing: tuple, gap_mm: float
) -> Geometry:
    """The geometry of a sorted stack; thin and evenly spaced non-axial stacks are re-sliced to axial.

    `gap_mm` is the slice spacing of a single slice, which positions cannot give.
    """
    along = positions @ np.cross(orientation[:3], orientation[3:])
    gaps = np.diff(along)
    spacing_mm = float(np.median(gaps)) if len(gaps) else gap_mm
    plane, order, flip = canonical_axes(orientation)
    drift_mm = np.abs(shear_mm(positions, orientation)).max()
    even = len(gaps) > 1 and gaps.max() < 1.5 * spacing_mm and gaps.min() > 0.5 * spacing_mm and drift_mm < spacing_mm
    if plane != "axial" and even and spacing_mm <= RESLICE_UP_TO_MM + ROUNDING_MM:
        plane, order, flip = canonical_axes(orientation, "axial")
    return Geometry(shape, positions, orientation, (spacing_mm, *pixel_spacing), plane, order, flip)


def shear_mm(positions: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """(slices, 2) shift in mm of each image along its rows and columns relative to the first one (gantry tilt)."""
    offset = positions - positions[0]
    return np.stack([offset @ orientation[:3], offset @ orientation[3:]], axis=1)


def tilt_degrees(positions: np.ndarray, orientation: np.ndarray) -> float:
    """Angle between the line through the image positions and the normal of the images."""
    line = positions[-1] - positions[0]
    length = np.linalg.norm(line)
    if length == 0:
        return 0.0
    return float(np.degrees(np.arccos(np.clip(line @ np.cross(orientation[:3], orientation[3:]) / length, -1, 1))))
