"""Boxes cut out of volumes, all of one shape (0 outside the volume), and where in the head they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volume3d.config import InputConfig

BY_POINT = 0.7  # of a box's half: how far from its middle a point may lie


def cut(volume: np.ndarray, centre: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(shape) float32: the box of whole voxels whose middle is nearest to `centre` (slice, row, column)."""
    first = np.round(np.asarray(centre) - (np.array(shape) - 1) / 2).astype(int)
    return box_at(volume, first, shape).astype(np.float32)


def box_at(volume: np.ndarray, first: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(shape) of the volume's type: the box from voxel `first` (slice, row, column) on."""
    last = first + shape
    inside = tuple(slice(max(0, a), max(0, b)) for a, b in zip(first, last, strict=True))
    part = volume[inside]
    where = tuple(slice(max(0, -a), max(0, -a) + n) for a, n in zip(first, part.shape, strict=True))
    box = np.zeros(shape, volume.dtype)
    box[where] = part
    return box


def seen_centre(shape: tuple[int, ...], z_mm: float, config: InputConfig) -> np.ndarray:
    """(3,) voxel (slice, row, column) of a volume of that shape that the middle of the input shows.

    `z_mm` is the distance of its slices, which run upward.
    """
    row, column = (share * n - 0.5 for share, n in zip(config.centre, shape[1:], strict=True))
    return np.array([shape[0] - 1 - config.below_top_mm / z_mm, row, column])


def first_voxel(middle: np.ndarray, whole: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """(3,) where a box around `middle` begins, so that it lies inside of the volume; where the volume is the smaller,
    in the middle of the box."""
    room = np.array(whole) - shape
    return np.where(room > 0, np.clip(np.round(middle - np.array(shape) / 2), 0, room), room // 2).astype(int)


def around(point: np.ndarray, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """(3,) the middle of a box that holds a point, anywhere but near the box's border."""
    return point + rng.uniform(-BY_POINT, BY_POINT, 3) * np.array(shape) / 2


def place_mm(first: Sequence[int], shape: Sequence[int], spacing_mm: Sequence[float]) -> np.ndarray:
    """(3,) float32 millimetres of voxel `first` (slice, row, column) from the top, middle row and middle column of a
    volume of that shape: upward, to the back, to the patient's left."""
    origin = np.array([shape[0] - 1, (shape[1] - 1) / 2, (shape[2] - 1) / 2])
    return ((np.asarray(first) - origin) * np.asarray(spacing_mm)).astype(np.float32)
