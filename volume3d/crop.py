"""Boxes cut out of volumes, all of one shape: what a box has outside its volume is 0."""

from __future__ import annotations

import numpy as np

from volume3d.config import InputConfig


def cut(volume: np.ndarray, centre: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(shape) float32: the box of whole voxels whose middle is nearest to `centre` (slice, row, column)."""
    first = np.round(np.asarray(centre) - (np.array(shape) - 1) / 2).astype(int)
    last = first + shape
    inside = tuple(slice(max(0, a), max(0, b)) for a, b in zip(first, last, strict=True))
    part = volume[inside]
    where = tuple(slice(max(0, -a), max(0, -a) + n) for a, n in zip(first, part.shape, strict=True))
    box = np.zeros(shape, np.float32)
    box[where] = part
    return box


def seen_centre(shape: tuple[int, ...], z_mm: float, config: InputConfig) -> np.ndarray:
    """(3,) voxel (slice, row, column) of a volume of that shape that the middle of the input shows.

    `z_mm` is the distance of its slices, which run upward.
    """
    row, column = (share * n - 0.5 for share, n in zip(config.centre, shape[1:], strict=True))
    return np.array([shape[0] - 1 - config.below_top_mm / z_mm, row, column])
