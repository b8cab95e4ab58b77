"""Where the voxels of one acquisition lie: a stack of images in millimetres, sheared by a gantry tilt if need be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """A stack of images; every vector is in millimetres, in LPS order (x to the left, y to the back, z to the vertex).

    origin   (3,) centre of the first pixel of the first slice
    step     (3,) from a slice to the next one; under a gantry tilt it is not along the normal of the slices
    row_step (3,) from a pixel to the one in the next row
    col_step (3,) from a pixel to the one in the next column
    shape    (slices, rows, columns)
    """

    origin: np.ndarray
    step: np.ndarray
    row_step: np.ndarray
    col_step: np.ndarray
    shape: tuple[int, int, int]

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3): index offsets (slice, row, column) @ matrix are millimetres."""
        return np.stack([self.step, self.row_step, self.col_step])

    def to_mm(self, index: np.ndarray) -> np.ndarray:
        """(..., 3) points in millimetres of (..., 3) indices (slice, row, column), fractions allowed."""
        return self.origin + np.asarray(index, float) @ self.matrix

    def to_index(self, point: np.ndarray) -> np.ndarray:
        """(..., 3) indices (slice, row, column), with fractions, of (..., 3) points in millimetres."""
        return (np.asarray(point, float) - self.origin) @ np.linalg.inv(self.matrix)

    def moved(self, rotation: np.ndarray, shift: np.ndarray) -> Grid:
        """The grid after every point p has become rotation @ p + shift."""
        turn = np.asarray(rotation, float)
        return Grid(
            turn @ self.origin + shift, turn @ self.step, turn @ self.row_step, turn @ self.col_step, self.shape
        )
