"""Crops boxes of one shape from volumes (0 outside the volume), and locates them in the head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volume3d.config import InputConfig

BY_POINT = 0.7  # maximum distance of a point from its box's middle, as a fraction of half its size


def cut(volume: np.ndarray, centre: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(shape) float32: the box of whole voxels whose centre is nearest to `centre` (slice, row, column)."""
    first = np.round(np.asarray(centre) - (np.array(shape) - 1) / 2).astype(int)
    return box_at(volume, first, shape).astype(np.float32)


def box_at(volume: np.ndarray, first: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(shape) in the volume's type: the box that starts at voxel `first` (slice, row, column)."""
    last = first + shape
    inside = tuple(slice(max(0, a), max(0, b)) for a, b in zip(first, last, strict=True))
    part = volume[inside]
    where = tuple(slice(max(0, -a), max(0, -a) + n) for a, n in zip(first, part.shape, strict=True))
    box = np.zeros(shape, volume.dtype)
    box[where] = part
    return box


def seen_centre(shape: tuple[int, ...], z_mm: float, config: InputConfig) -> np.ndarray:
    """(3,) voxel (slice, row, column) at the middle of the model's input, for a volume of this shape.

    `z_mm` is the slice spacing; slices run upward.
    """
    row, column = (share * n - 0.5 for share, n in zip(config.centre, shape[1:], strict=True))
    return np.array([shape[0] - 1 - config.below_top_mm / z_mm, row, column])


def first_voxel(middle: np.ndarray, whole: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """(3,) first voxel of a box around `middle`, shifted to lie inside the volume.

    Along an axis where the volume is smaller than the box, the volume is centred in it.
    """
    room = np.array(whole) - shape
    return np.where(room > 0, np.clip(np.round(middle - np.array(shape) / 2), 0, room), room // 2).astype(int)


def around(point: np.ndarray, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """(3,) middle of a random box that contains a point, but not near the box's border."""
    return point + rng.uniform(-BY_POINT, BY_POINT, 3) * np.array(shape) / 2


def place_mm(first: Sequence[int], shape: Sequence[int], spacing_mm: Sequence[float]) -> np.ndarray:
    """(3,) float32 position of voxel `first` (slice, row, column) in a volume of this shape, in millimetres.

    Relative to the top slice, middle row and middle column: upward, to the back, to the patient's left.
    """
    origin = np.array([shape[0] - 1, (shape[1] - 1) / 2, (shape[2] - 1) / 2])
    return ((np.asarray(first) - origin) * np.asarray(spacing_mm)).astype(np.float32)
