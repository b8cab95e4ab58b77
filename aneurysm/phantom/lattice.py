"""A coarse lattice over a grid: fields are computed at its points and interpolated to the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from aneurysm.phantom.grid import Grid

AT_ONCE = 3  # lattice slices per call: fewer mean more call overhead, more mean more shapes to compute


@dataclass(frozen=True)
class Window:
    """A box of a slice: its rows and columns in the lattice and in the grid."""

    cells: tuple[slice, slice]
    pixels: tuple[slice, slice]


def strides_of(grid: Grid, pitch_mm: float = 2.4) -> list[float]:
    """Distance between lattice points in slices (may be fractional), rows and columns of the grid, each at least 1."""
    pitches = [np.linalg.norm(step) for step in (grid.step, grid.row_step, grid.col_step)]
    return [max(1.0, pitch_mm / pitches[0]), *(max(1, int(round(pitch_mm / p))) for p in pitches[1:])]


class Lattice:
    """Points about `pitch_mm` apart along slices, rows and columns, with one extra row and column on each side.

    In rows and columns, points lie at the centres of k x k pixels, as cv2.resize expects.
    """

    def __init__(self, grid: Grid, pitch_mm: float = 2.4, skipped: int = 0):
        """`skipped`: slices of the scan before the grid; lattice slices are aligned to the scan's first slice."""
        self.grid, self.strides = grid, strides_of(grid, pitch_mm)
        self.skipped = skipped % self.strides[0]
        rows, cols = (-(-n // k) + 2 for n, k in zip(grid.shape[1:], self.strides[1:], strict=True))
        slices = int((self.skipped + grid.shape[0] - 1) / self.strides[0]) + 2
        offset = [-self.skipped, *((k - 1) / 2 - k for k in self.strides[1:])]
        step, row_step, col_step = (k * v for k, v in zip(self.strides, grid.matrix, strict=True))
        self.coarse = Grid(grid.to_mm(np.array(offset)), step, row_step, col_step, (slices, rows, cols))
        self._kept: dict[int, np.ndarray] = {}

    def points(self, first: int, count: int) -> np.ndarray:
        """float32 (count * rows * cols, 3) points in mm of `count` lattice slices from `first` on."""
        rows, cols = self.coarse.shape[1:]
        index = np.indices((count, rows, cols)).reshape(3, -1).T
        return self.coarse.to_mm(index + [first, 0, 0]).astype(np.float32)

    def slice_at(self, index: int, compute: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """(fields, rows, cols) at lattice rows and columns, interpolated linearly to slice `index` of the grid.

        `compute(first, count)` returns (fields, count, rows, cols) of `count` lattice slices from `first` on.
        """
        below, share = divmod((index + self.skipped) / self.strides[0], 1)
        wanted = [int(below)] if share == 0 else [int(below), int(below) + 1]
        self._kept = {number: self._kept[number] for number in self._kept if number >= wanted[0]}
        for number in wanted:
            if number not in self._kept:
                made = compute(number, min(AT_ONCE, self.coarse.shape[0] - number))
                self._kept.update({number + offset: made[:, offset] for offset in range(made.shape[1])})
        if share == 0:
            return self._kept[wanted[0]]
        return self._kept[wanted[0]] * np.float32(1 - share) + self._kept[wanted[1]] * np.float32(share)

    def window(self, field: np.ndarray, least: float) -> Window | None:
        """The box, with a margin, of the points where a field (rows, cols) is at least `least`; None if none is."""
        high = field >= least
        boxes, pixels = [], []
        for axis in (0, 1):
            found, stride, size = np.flatnonzero(high.any(1 - axis)), self.strides[1 + axis], self.grid.shape[1 + axis]
            if not len(found):
                return None
            first, last = max(0, found[0] - 2), min(high.shape[axis], found[-1] + 3)
            boxes.append(slice(first, last))
            pixels.append(slice(max(0, (first - 1) * stride), min(size, (last - 1) * stride)))
        return Window(tuple(boxes), tuple(pixels))

    @property
    def whole(self) -> Window:
        """The whole slice."""
        cells, pixels = (tuple(slice(0, n) for n in own.shape[1:]) for own in (self.coarse, self.grid))
        return Window(cells, pixels)

    def enlarge(self, field: np.ndarray, window: Window) -> np.ndarray:
        """Upsamples a window of one lattice field (rows, cols) to the window's pixels, float32."""
        small = np.ascontiguousarray(field[window.cells])
        k_row, k_col = self.strides[1:]
        large = cv2.resize(small, (small.shape[1] * k_col, small.shape[0] * k_row), interpolation=cv2.INTER_LINEAR)
        top = window.pixels[0].start - (window.cells[0].start - 1) * k_row
        left = window.pixels[1].start - (window.cells[1].start - 1) * k_col
        rows, cols = (span.stop - span.start for span in window.pixels)
        return large[top : top + rows, left : left + cols]
