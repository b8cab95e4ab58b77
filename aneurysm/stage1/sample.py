"""A training sample of stage 1, before batching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """A window of three slices and all that is known of it; what augmentation and mirroring must move together.

    image            (rows, columns, 3) float32 in [0, 1]; the channels are the slices below, at and above the
                     window's centre along the canonical slice axis (aneurysm/data/geometry.py)
    labels           (14,) float32 in order of LABELS
    points           (n, 2) float32 x (column) and y (row) of the localizers in pixels of `image`, pixel centres on
                     whole numbers
    point_locations  (n,) int64 index of each point's location in LOCATIONS
    vessels          (rows, columns) uint8: 0 background, 1..13 is 1 + index in LOCATIONS (not the numbers of the mask
                     files); None where the series has no mask
    """

    image: np.ndarray
    labels: np.ndarray
    points: np.ndarray
    point_locations: np.ndarray
    vessels: np.ndarray | None = None
