"""Draws the geometry of a scan: tilt, head pose, field of view, spacing, distributed as in the competition.

Coverage does not depend on the aneurysms: each image stack contains all of `SAC_REGION`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay

from aneurysm.phantom.grid import Grid

PLANE_SHARES = {"axial": 4197, "coronal": 87, "sagittal": 64}

# Corners of a convex hull (person's frame, mm, LPS) around every position where an aneurysm may be drawn.
SAC_REGION = np.array(
    [(x, y, z) for side in (-1, 1) for x, y, z in [
        (side * 48, -22, -12), (side * 48, 18, -8), (side * 48, -14, 24), (side * 48, 22, 24),
        (side * 10, -46, 14), (side * 10, -44, 40), (side * 10, -20, 48), (side * 10, 0, 46), (side * 10, -28, -12),
        (side * 27, -24, -26), (side * 27, 14, -32), (side * 27, 8, -54), (side * 24, 34, -55),
        (side * 34, 46, -12), (side * 34, 46, 20),
    ]], float,
)  # fmt: skip
MARGIN_MM = 5.0
_REGION = Delaunay(SAC_REGION)
HEAD_CENTRE = np.array([0.0, 16.0, 18.0])

# Unit vectors per plane: towards the next slice, the next row, the next column.
_DIRECTIONS = {
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
    "sagittal": ((-1, 0, 0), (0, 0, -1), (0, 1, 0)),
}
# (choices, probabilities) by modality: slice spacing in mm for size 512; number of rows before scaling.
_SPACINGS = {
    "CTA": ((0.4, 0.5, 0.625, 0.75, 1.0), (0.1, 0.25, 0.35, 0.1, 0.2)),
    "MRA": ((0.5, 0.6, 0.7, 0.8, 1.0), (0.05, 0.1, 0.3, 0.35, 0.2)),
    "MRI T1post": ((0.9, 1.0, 1.2, 3.0, 5.0), (0.25, 0.45, 0.1, 0.05, 0.15)),
    "MRI T2": ((0.8, 1.0, 4.0, 5.0, 6.0), (0.04, 0.04, 0.15, 0.62, 0.15)),
}
_MATRICES = {
    "CTA": ((512, 768, 1024), (0.987, 0.007, 0.006)),
    "MRA": ((256, 320, 384, 512, 560, 640, 768, 1024), (0.04, 0.06, 0.22, 0.4, 0.08, 0.08, 0.09, 0.03)),
    "MRI T1post": ((224, 256, 320, 384, 512, 640), (0.04, 0.38, 0.1, 0.08, 0.37, 0.03)),
    "MRI T2": ((256, 320, 384, 448, 512, 640, 768, 1024), (0.08, 0.1, 0.14, 0.16, 0.4, 0.05, 0.04, 0.03)),
}


@dataclass(frozen=True)
class Acquisition:
    """A grid in scanner millimetres (LPS) and the pose: person = rotation @ scanner + shift, in mm."""

    modality: str
    plane: str
    grid: Grid
    rotation: np.ndarray
    shift: np.ndarray
    thickness_mm: float

    @property
    def person_grid(self) -> Grid:
        """The same voxels in the person's frame."""
        return self.grid.moved(self.rotation, self.shift)

    def to_scanner(self, point: np.ndarray) -> np.ndarray:
        """Converts (..., 3) points in the person's frame to scanner millimetres."""
        return (np.asarray(point, float) - self.shift) @ self.rotation


def covered(points: np.ndarray) -> bool:
    """Whether all (n, 3) points (person's frame) lie in the region that every acquisition covers."""
    return bool((_REGION.find_simplex(np.reshape(points, (-1, 3))) >= 0).all())


def draw_acquisition(
    rng: np.random.Generator, modality: str, plane: str, size: int, max_slices: int | None = None,
    pose: float = 1.0,
) -> Acquisition:  # fmt: skip
    """Draws one acquisition; `size` / 512 scales the matrix and, inversely, the spacing of slices under 3 mm.

    max_slices: the slice spacing is increased to stay below this number.
    pose: factor on the head's pitch, roll and yaw, whose SDs are 5, 2.5 and 4 degrees for 1.
    """
    angles = pose * rng.normal(0, (5.0, 2.5, 4.0))  # pitch, roll, yaw of the head in degrees
    turn = rotation_matrix(angles)
    centre = rng.uniform((-15, -180, -900), (15, 20, 900)) if modality == "CTA" else rng.normal(0, (8, 20, 15))
    directions, gantry_degrees = _slice_directions(rng, modality, plane, angles[0])
    rows, cols, pixel_mm = _matrix(rng, modality, size)
    low, high = _extent(rng, modality, plane)
    spacing = _spacing(rng, modality, plane, size)
    if max_slices:
        spacing = max(spacing, round((high - low + 12) / (max_slices - 3), 4))
    step = directions[0] * spacing
    row_step, col_step = directions[1] * pixel_mm[0], directions[2] * pixel_mm[1]
    grid = _fitted(Grid(centre, step, row_step, col_step, (1, rows, cols)), turn, (low, high), rng)
    thickness = round(spacing * np.cos(np.deg2rad(gantry_degrees)) * rng.choice([1.0, 1.25, 0.9], p=[0.7, 0.2, 0.1]), 3)
    return Acquisition(modality, plane, grid, turn.T, -turn.T @ centre, thickness)


def scout(acquisition: Acquisition) -> Grid:
    """Grid (scanner mm) of one coarse image in another plane, as scouts in some series folders."""
    plane = "sagittal" if acquisition.plane == "axial" else "axial"
    _, row, col = (np.array(v, float) for v in _DIRECTIONS[plane])
    n, pixel_mm = 96, 2.5
    corner = acquisition.to_scanner(HEAD_CENTRE) - (row + col) * pixel_mm * (n - 1) / 2
    return Grid(corner, np.cross(col, row) * 5.0, row * pixel_mm, col * pixel_mm, (1, n, n))


def rotation_matrix(degrees: np.ndarray) -> np.ndarray:
    """(3, 3) matrix of a rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _slice_directions(rng, modality, plane, pitch_degrees) -> tuple[np.ndarray, float]:
    """(3, 3) unit vectors (slice, row, column), and the gantry tilt in degrees; with a tilt, slices step along z."""
    directions = np.array(_DIRECTIONS[plane], float)
    tilted = rng.random() < (0.05 if modality == "CTA" else 0.7)
    degrees = rng.choice([-1, 1]) * rng.uniform(5, 22)
    oblique = (pitch_degrees * 0.7 + rng.normal(0, 6), rng.normal(0, 1.5), rng.normal(0, 1.5))
    if not tilted:
        return directions, 0.0
    if modality != "CTA":
        return directions @ rotation_matrix(np.array(oblique)).T, 0.0
    if plane != "axial":
        return directions, 0.0
    images = directions[1:] @ rotation_matrix(np.array([degrees, 0, 0])).T
    return np.stack([directions[0], *images]), float(degrees)


def _matrix(rng, modality, size) -> tuple[int, int, tuple[float, float]]:
    """Rows, columns, and pixel size in mm (between rows, between columns)."""
    choices, shares = _MATRICES[modality]
    rows = max(32, 2 * round(rng.choice(choices, p=shares) * size / 1024))
    field_mm = np.clip(rng.normal(238, 18), 200, 310) if modality == "CTA" else np.clip(rng.normal(222, 14), 200, 260)
    pixel_mm = round(float(field_mm) / rows, 6)
    narrow, uneven = rng.choice([1.0, 0.9, 0.85, 0.8], p=[0.4, 0.2, 0.2, 0.2]), rng.random() < 0.02
    if modality == "CTA":
        return rows, rows, (pixel_mm, pixel_mm)
    cols, across_mm = 2 * round(rows * narrow / 2), pixel_mm
    if uneven:
        cols, across_mm = 2 * round(cols / 2.5), round(pixel_mm * 1.25, 6)
    return rows, cols, (pixel_mm, across_mm)


def _spacing(rng, modality, plane, size) -> float:
    """Slice spacing in mm."""
    choices, shares = _SPACINGS[modality]
    spacing, fine, coarse = float(rng.choice(choices, p=shares)), rng.random() < 0.6, rng.uniform(3, 5)
    if plane != "axial":
        return round(min(rng.uniform(0.6, 1.0) * 512 / size, 2.0) if fine else coarse, 3)
    return spacing if spacing >= 3 else max(spacing, min(spacing * 512 / size, 5.0))


def _extent(rng, modality, plane) -> tuple[float, float]:
    """Start and end of the stack, in mm from the person's origin: slab, head, or head and neck."""
    slab = modality == "MRA" and rng.random() < 0.85
    neck = rng.random() < {"CTA": 0.5, "MRA": 0.15}.get(modality, 0.0)
    depth, top = rng.uniform(110, 215), rng.uniform(86, 100)
    if slab:
        return 0.0, 0.0  # _fitted extends this to SAC_REGION and its margins
    if plane == "coronal":
        return rng.uniform(-80, -60), rng.uniform(75, 105)
    if plane == "sagittal":
        return rng.uniform(-75, -58), rng.uniform(58, 75)
    if modality == "MRI T2":
        return rng.uniform(-60, -54), rng.uniform(82, 94)
    return (-depth if neck else rng.uniform(-85, -60)), top


def _fitted(grid: Grid, turn: np.ndarray, extent_mm: tuple[float, float], rng) -> Grid:
    """Places the grid around the head; it covers `extent_mm` across slices and all of `SAC_REGION`.

    `grid.origin` is the person's origin in scanner mm. Pixels are enlarged if the region does not fit into the image.
    """
    region = grid.to_index(grid.origin + SAC_REGION @ turn.T)
    middle = grid.to_index(grid.origin + turn @ (HEAD_CENTRE + rng.normal(0, 4, 3)))
    spacing = np.linalg.norm(grid.step)
    reach = (MARGIN_MM + rng.uniform(0, 9, 2)) / spacing
    first = np.floor(min(extent_mm[0] / spacing, region[:, 0].min() - reach[0]))
    last = np.ceil(max(extent_mm[1] / spacing, region[:, 0].max() + reach[1]))
    half = (np.array(grid.shape[1:]) - 1) / 2
    margin = MARGIN_MM / np.array([np.linalg.norm(grid.row_step), np.linalg.norm(grid.col_step)])
    grow = np.maximum(1.0, ((np.abs(region[:, 1:] - middle[1:]) + margin) / half).max())
    corner = (first, *(middle[1:] - grow * half))
    shape = (int(last - first) + 1, *grid.shape[1:])
    return Grid(grid.to_mm(corner), grid.step, grid.row_step * grow, grid.col_step * grow, shape)
