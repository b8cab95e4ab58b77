"""Where in the head a part of a volume lies: what a network needs to name the artery, and to find the way back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def place_mm(first: Sequence[int], shape: Sequence[int], spacing_mm: Sequence[float]) -> np.ndarray:
    """(3,) float32 millimetres of voxel `first` (slice, row, column) from the top, middle row and middle column of a
    volume of that shape: upward, to the back, to the patient's left."""
    origin = np.array([shape[0] - 1, (shape[1] - 1) / 2, (shape[2] - 1) / 2])
    return ((np.asarray(first) - origin) * np.asarray(spacing_mm)).astype(np.float32)
