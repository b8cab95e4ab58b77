"""The map that a window should be answered with, where only localizers are known."""

from __future__ import annotations

import numpy as np

from aneurysm.data.marks import RIM


def disc_target(
    points: np.ndarray, locations: np.ndarray, pixel_mm: tuple[float, float], image_size: int, stride: int,
    disc_mm: float, rim_mm: float,
) -> np.ndarray:  # fmt: skip
    """(image_size / stride, same) uint8: 0, 1 + index in LOCATIONS in a disc around each point, RIM around the discs.

    points (n, 2) x, y in pixels of the input, which are pixel_mm (across, down) large; the diameters are in mm. The
    pixel nearest to a point inside the input is in its disc. Where discs meet, the nearer point counts.
    """
    n = image_size // stride
    target, nearest = np.zeros((n, n), np.uint8), np.full((n, n), np.inf)
    centres = (np.arange(n) + 0.5) * stride - 0.5
    for (x, y), location in zip(points, locations, strict=True):
        away = np.hypot((centres[None] - x) * pixel_mm[0], (centres[:, None] - y) * pixel_mm[1])
        inside = away <= disc_mm / 2
        column, row = (int(np.floor((v + 0.5) / stride)) for v in (x, y))
        if 0 <= column < n and 0 <= row < n:
            inside[row, column] = True
        target[(away <= rim_mm / 2) & (target == 0)] = RIM
        own = inside & (away < nearest)
        target[own], nearest[own] = 1 + location, away[own]
    return target
