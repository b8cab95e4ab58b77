"""What volume3d predicts at places of the original images: the maximum over the cells around each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:  # volume3d needs scipy; bundles without volume3d do not
    from volume3d.grid import Grid

OUTSIDE = 1e-4  # probability of an aneurysm beyond the volume


@dataclass(frozen=True)
class VolumeEvidence:
    """volume3d's map of one series.

    cells   (slices, rows, columns) probability of an aneurysm in each cell, in [0, 1]
    grid    of the voxels
    stride  voxels from one cell to the next
    """

    cells: np.ndarray
    grid: Grid
    stride: int

    def near(self, source: np.ndarray) -> np.ndarray:
        """(...) the highest probability in the 3 x 3 x 3 cells around each point; OUTSIDE beyond the volume.

        source (..., 3) points of the source series: image, row and column, fractions allowed.
        """
        highest = functional.max_pool3d(torch.from_numpy(self.cells)[None].float(), 3, stride=1, padding=1)[0].numpy()
        cell, last = (self.grid.voxels_at(source) + 0.5) / self.stride - 0.5, np.array(highest.shape) - 1
        inside = ((cell >= -0.5) & (cell <= last + 0.5)).all(axis=-1)
        nearest = np.clip(np.rint(cell), 0, last).astype(int)
        return np.where(inside, highest[tuple(np.moveaxis(nearest, -1, 0))], OUTSIDE)
