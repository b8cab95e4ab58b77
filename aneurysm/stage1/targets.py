"""The heatmap that a window should be answered with."""

from __future__ import annotations

import numpy as np

from aneurysm.labels import LOCATIONS


def heat_target(points: np.ndarray, locations: np.ndarray, image_size: int, stride: int, sigma: float) -> np.ndarray:
    """(13, image_size / stride, same) float32 in [0, 1]: a Gaussian around each point, exactly 1 at the nearest pixel.

    points (n, 2) x, y in pixels of the input; sigma in heatmap pixels. Points outside the input leave no mark.
    """
    n = image_size // stride
    target = np.zeros((len(LOCATIONS), n, n), np.float32)
    axis = np.arange(n)
    cells = np.rint((points + 0.5) / stride - 0.5).astype(int)
    for (x, y), location in zip(cells, locations, strict=True):
        if 0 <= x < n and 0 <= y < n:
            across, down = (np.exp(-((axis - c) ** 2) / (2 * sigma**2)) for c in (x, y))
            np.maximum(target[location], np.outer(down, across), out=target[location])
    return target
