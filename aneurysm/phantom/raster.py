"""Paints tapering capsules (pieces of vessels, sacs, plaques) into a grid, with partial volume at their walls.

A voxel is one 16-bit number: its filled fraction (0 to 4095) times 16, plus the code of what fills it (0 to 15). Where
capsules overlap, the larger number is stored, so that the order of painting does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.phantom.grid import Grid

FULL = 4095
CHUNK = 400_000  # voxels per batch


def pieces_of(points: np.ndarray, radius_mm: np.ndarray) -> np.ndarray:
    """(n - 1, 8) capsules along a centreline (n, 3): both ends (x, y, z, x, y, z) and their radii, in mm."""
    return np.hstack([points[:-1], points[1:], radius_mm[:-1, None], radius_mm[1:, None]])


@dataclass(frozen=True)
class Capsules:
    """Capsules to paint: shapes (n, 8), codes (n,), and their bounding balls: middle (n, 3) and radius (n,) in mm."""

    shapes: np.ndarray
    codes: np.ndarray
    middle: np.ndarray
    radius: np.ndarray

    @classmethod
    def of(cls, shapes: np.ndarray, codes: np.ndarray) -> Capsules:
        first, last = shapes[:, :3], shapes[:, 3:6]
        radius = shapes[:, 6:].max(1) + np.linalg.norm(last - first, axis=1) / 2
        return cls(shapes, codes, (first + last) / 2, radius)

    def near(self, grid: Grid, reach_mm: float) -> Capsules:
        """Those within `reach_mm` of the bounding ball of a grid."""
        ends = grid.to_mm(np.array([(0, 0, 0), np.array(grid.shape) - 1]))
        corners = grid.to_mm(np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(grid.shape) - 1))
        away = self.middle - ends.mean(0)
        limit = self.radius + reach_mm + np.linalg.norm(corners - ends.mean(0), axis=1).max()
        kept = np.flatnonzero((away * away).sum(1) < limit * limit)
        return Capsules(self.shapes[kept], self.codes[kept], self.middle[kept], self.radius[kept])


def paint(volume: np.ndarray, grid: Grid, capsules: Capsules, soft_mm: float) -> None:
    """Paints capsules into a uint16 volume of the grid's shape, in place; walls are `soft_mm` wide."""
    inverse = np.linalg.inv(grid.matrix)
    reach = np.linalg.norm(inverse, axis=0)  # indices per millimetre, by axis
    middle = grid.to_index(capsules.middle)
    half = np.ceil((capsules.radius + soft_mm / 2)[:, None] * reach).astype(int)
    near = np.all((middle + half > 0) & (middle - half < np.array(grid.shape) - 1), axis=1)
    key = half @ [1, 1000, 1_000_000]
    for value in np.unique(key[near]):
        members = np.flatnonzero(near & (key == value))
        box = np.stack(np.meshgrid(*(np.arange(-h, h + 1) for h in half[members[0]]), indexing="ij"), -1).reshape(-1, 3)
        at_once = max(1, CHUNK // len(box))
        for begin in range(0, len(members), at_once):
            part = members[begin : begin + at_once]
            centre = np.round(middle[part]).astype(int)
            filled = coverage(capsules.shapes[part], grid.to_mm(centre), box @ grid.matrix, soft_mm)
            store(volume, centre, box, filled, capsules.codes[part])


def coverage(capsules: np.ndarray, centre: np.ndarray, offsets: np.ndarray, soft_mm: float) -> np.ndarray:
    """(n, b) fraction, 0 to 1, that capsule i fills of the voxels at centre i (n, 3) plus (b, 3) offsets, in mm."""
    base = (centre - capsules[:, :3]).astype(np.float32)
    along = (capsules[:, 3:6] - capsules[:, :3]).astype(np.float32)
    offsets = offsets.astype(np.float32)
    length2 = (along**2).sum(1, keepdims=True) + 1e-6
    dot = (base * along).sum(1, keepdims=True) + along @ offsets.T
    share = np.clip(dot / length2, 0, 1)
    distance2 = (base**2).sum(1, keepdims=True) + 2 * base @ offsets.T + (offsets**2).sum(1)
    distance2 += share * (share * length2 - 2 * dot)
    thin, thick = capsules[:, 6:7].astype(np.float32), capsules[:, 7:8].astype(np.float32)
    radius = thin + share * (thick - thin)
    inside = np.clip((radius - np.sqrt(np.maximum(distance2, 0))) / np.float32(soft_mm) + 0.5, 0, 1)
    # A vessel thinner than the wall's width never fills a voxel.
    return inside * np.minimum(1, (2 * radius / np.float32(soft_mm)) ** 1.5)


def store(volume: np.ndarray, centre: np.ndarray, box: np.ndarray, filled: np.ndarray, codes: np.ndarray) -> None:
    """Stores (n, b) fractions and (n,) codes where they exceed the volume's numbers; skips voxels outside of it."""
    piece, voxel = np.nonzero(filled > 0.002)
    index = centre[piece] + box[voxel]
    within = np.all((index >= 0) & (index < volume.shape), axis=1)
    piece, voxel, index = piece[within], voxel[within], index[within]
    number = (np.round(filled[piece, voxel] * FULL).astype(np.uint16) << 4) | codes[piece].astype(np.uint16)
    flat = np.ravel_multi_index(tuple(index.T), volume.shape)
    np.maximum.at(volume.reshape(-1), flat, number)


def share_of(volume: np.ndarray) -> np.ndarray:
    """float32 filled fraction of each voxel, 0 to 1."""
    return (volume >> 4).astype(np.float32) / FULL


def code_of(volume: np.ndarray) -> np.ndarray:
    """uint8 code, 0 to 15, of what fills each voxel."""
    return (volume & 15).astype(np.uint8)
