"""Writes small vessel masks as NIfTI files with nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

# What the values 0 to 13 of a mask become, worked out by hand from the competition's two lists of locations.
OURS = np.array([0, 13, 12, 11, 10, 2, 1, 4, 3, 6, 5, 9, 8, 7])


def grid_affine(orientation: tuple, spacing: tuple, first: tuple = (0.0, 0.0, 0.0)) -> np.ndarray:
    """(4, 4) from (column, row, slice) to LPS millimetres."""
    along_row, along_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    affine = np.eye(4)
    steps = (along_row * spacing[2], along_column * spacing[1], np.cross(along_row, along_column) * spacing[0])
    affine[:3] = np.stack([*steps, np.array(first, float)], axis=1)
    return affine


def save_mask(path: Path, values: np.ndarray, lps: np.ndarray) -> Path:
    """A NIfTI file of values[x, y, z] whose indices `lps` takes to LPS millimetres."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1, -1, 1, 1]) @ lps), path)
    return path


def blocks(shape: tuple, seed: int = 0) -> np.ndarray:
    """uint8 mask values in blocks of random sizes, with background around them and in between."""
    rng = np.random.default_rng(seed)
    values = np.zeros(shape, np.uint8)
    for _ in range(60):
        low = rng.integers(np.array(shape) // 6, np.array(shape) * 3 // 4)
        high = np.minimum(low + rng.integers(1, np.array(shape) // 6 + 2), np.array(shape) * 5 // 6)
        values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = rng.integers(1, 14)
    return values


def numbered_slices(shape: tuple) -> np.ndarray:
    """values[x, y, z]: a square in the middle of each slice z, of value 1 + z modulo 13."""
    values = np.zeros(shape, np.uint8)
    values[shape[0] // 4 : -shape[0] // 4, shape[1] // 4 : -shape[1] // 4] = 1 + np.arange(shape[2]) % 13
    return values
