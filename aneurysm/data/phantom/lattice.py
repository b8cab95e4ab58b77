"""A coarse lattice laid over a grid: fields are computed at its points and interpolated to the pixels in between."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from aneurysm.data.phantom.grid import Grid


class Lattice:
    """Every k-th row and column of a grid, one more on each side, and slices, about `pitch_mm` apart.

    cv2.resize sets its samples at the middle of the cells they stand for; the lattice is laid accordingly.
    """

    def __init__(self, grid: Grid, pitch_mm: float = 2.4):
        self.grid = grid
        pitches = [np.linalg.norm(step) for step in (grid.step, grid.row_step, grid.col_step)]
        self.strides = [max(1.0, pitch_mm / pitches[0]), *(max(1, int(round(pitch_mm / p))) for p in pitches[1:])]
        rows, cols = (-(-n // k) + 2 for n, k in zip(grid.shape[1:], self.strides[1:], strict=True))
        slices = int((grid.shape[0] - 1) / self.strides[0]) + 2
        offset = [0, *((k - 1) / 2 - k for k in self.strides[1:])]
        step, row_step, col_step = (k * v for k, v in zip(self.strides, grid.matrix, strict=True))
        self.coarse = Grid(grid.to_mm(np.array(offset)), step, row_step, col_step, (slices, rows, cols))
        self._kept: dict[int, np.ndarray] = {}

    def points(self, slice_index: int) -> np.ndarray:
        """float32 (rows * cols, 3) points in mm of one slice of the lattice."""
        rows, cols = np.indices(self.coarse.shape[1:]).reshape(2, -1)
        return self.coarse.to_mm(np.stack([np.full(len(rows), slice_index), rows, cols], 1)).astype(np.float32)

    def slice_at(self, index: int, compute: Callable[[int], np.ndarray]) -> np.ndarray:
        """(fields, rows, cols) of the lattice interpolated to the height of slice `index` of the grid.

        `compute` makes (fields, rows, cols) of one slice of the lattice; two of them are kept.
        """
        below, share = divmod(index / self.strides[0], 1)
        wanted = [int(below)] if share == 0 else [int(below), int(below) + 1]
        self._kept = {number: self._kept[number] for number in wanted if number in self._kept}
        for number in wanted:
            if number not in self._kept:
                self._kept[number] = compute(number)
        if share == 0:
            return self._kept[wanted[0]]
        return self._kept[wanted[0]] * np.float32(1 - share) + self._kept[wanted[1]] * np.float32(share)

    def enlarge(self, field: np.ndarray) -> np.ndarray:
        """float32 (grid rows, grid cols) of one field (rows, cols) of a slice."""
        rows, cols = self.coarse.shape[1:]
        k_row, k_col = self.strides[1:]
        large = cv2.resize(np.ascontiguousarray(field), (cols * k_col, rows * k_row), interpolation=cv2.INTER_LINEAR)
        return large[k_row : k_row + self.grid.shape[1], k_col : k_col + self.grid.shape[2]]
