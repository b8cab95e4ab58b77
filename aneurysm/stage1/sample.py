"""A training sample of stage 1, before batching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.folds.targets import labels_of


@dataclass(frozen=True)
class Sample:
    """A window and all that is known of it; what augmentation and mirroring must move together.

    image            (rows, columns, n_slices) float32 in [0, 1]; the channels are slices from below to above the
                     window's centre along the canonical slice axis (aneurysm/dicom/geometry.py)
    points           (n, 2) float32 x (column) and y (row) of the localizers in pixels of `image`, pixel centres on
                     whole numbers
    point_locations  (n,) int64 index of each point's location in LOCATIONS
    vessels          (rows, columns) uint8: 0 background, 1..13 is 1 + index in LOCATIONS (not the numbers of the mask
                     files); None where the series has no mask
    corner           first column and row of a part of an input
    """

    image: np.ndarray
    points: np.ndarray
    point_locations: np.ndarray
    vessels: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)

    @property
    def labels(self) -> np.ndarray:
        """(14,) float32 in order of LABELS: of the localizers that `points` holds, so of those that are shown."""
        return labels_of(self.point_locations)
