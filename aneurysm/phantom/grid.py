"""Voxel positions of one acquisition in millimetres: a stack of slices, sheared if the gantry is tilted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """A stack of slices; vectors are in mm and in LPS (x to the patient's left, y to the back, z to the vertex).

    origin   (3,) centre of the first pixel of the first slice
    step     (3,) from one slice to the next; with a gantry tilt it is not along the slice normal
    row_step (3,) from one row to the next
    col_step (3,) from one column to the next
    shape    (slices, rows, columns)
    """

    origin: np.ndarray
    step: np.ndarray
    row_step: np.ndarray
    col_step: np.ndarray
    shape: tuple[int, int, int]

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) matrix; index offsets (slice, row, column) @ matrix gives offsets in millimetres."""
        return np.stack([self.step, self.row_step, self.col_step])

    def to_mm(self, index: np.ndarray) -> np.ndarray:
        """Converts (..., 3) indices (slice, row, column), fractions allowed, to (..., 3) points in millimetres."""
        return self.origin + np.asarray(index, float) @ self.matrix

    def to_index(self, point: np.ndarray) -> np.ndarray:
        """Converts (..., 3) points in millimetres to (..., 3) fractional indices (slice, row, column)."""
        return (np.asarray(point, float) - self.origin) @ np.linalg.inv(self.matrix)

    def moved(self, rotation: np.ndarray, shift: np.ndarray) -> Grid:
        """The grid after moving every point p to rotation @ p + shift."""
        turn = np.asarray(rotation, float)
        return Grid(
            turn @ self.origin + shift, turn @ self.step, turn @ self.row_step, turn @ self.col_step, self.shape
        )
