"""What volume3d says of places in the original images: the maximum over the cells around each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

OUTSIDE = 1e-4  # probability of an aneurysm where volume3d sees nothing


@dataclass(frozen=True)
class VolumeEvidence:
    """volume3d's map of one series.

    cells   (slices, rows, columns) probability of an aneurysm in each cell, in [0, 1]
    axes    as in SeriesVolume
    stride  voxels from one cell to the next
    """

    cells: np.ndarray
    axes: tuple[tuple[int, np.ndarray], ...]
    stride: int

    def near(self, source: np.ndarray) -> np.ndarray:
        """(...) the highest probability in the 3 x 3 x 3 cells around each point; OUTSIDE beyond the volume.

        source (..., 3) points of the source series: image, row and column, fractions allowed.
        """
        highest = functional.max_pool3d(torch.from_numpy(self.cells)[None].float(), 3, stride=1, padding=1)[0].numpy()
        inside, index = np.ones(source.shape[:-1], bool), []
        for (axis, voxels), n_cells in zip(self.axes, self.cells.shape, strict=True):
            cell = (_along(voxels, source[..., axis]) + 0.5) / self.stride - 0.5
            inside &= (cell >= -0.5) & (cell <= n_cells - 0.5)
            index.append(np.clip(np.rint(cell), 0, n_cells - 1).astype(int))
        return np.where(inside, highest[tuple(index)], OUTSIDE)


def _along(voxels: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Fractional voxels at fractional source indices, extrapolated linearly; `voxels` as in SeriesVolume.axes."""
    last = len(voxels) - 1
    if last < 1:
        return np.full(source.shape, voxels[0])
    before = np.clip(np.floor(source), 0, last - 1).astype(int)
    return voxels[before] + (source - before) * (voxels[before + 1] - voxels[before])
