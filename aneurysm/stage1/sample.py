"""A training sample of stage 1, and left and right exchanged: of samples, and of images and outputs at test time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.folds.targets import labels_of
from aneurysm.labels import LOCATIONS, MIRROR


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


Array = TypeVar("Array")  # numpy array or torch tensor: both are indexed by lists in the same way

LABEL_ORDER = list(MIRROR)
LOCATION_ORDER = LABEL_ORDER[: len(LOCATIONS)]
VESSEL_ORDER = np.array([0, *(1 + i for i in LOCATION_ORDER)], np.uint8)


def mirror(sample: Sample, plane: str) -> Sample:
    """The sample of the same head with left and right exchanged; shapes and value ranges stay."""
    points, vessels = sample.points.copy(), sample.vessels
    if left_right_in_columns(plane):
        image = sample.image[:, ::-1]
        points[:, 0] = image.shape[1] - 1 - points[:, 0]
        vessels = None if vessels is None else vessels[:, ::-1]
    else:
        image = sample.image[:, :, ::-1]
    return replace(
        sample,
        image=np.ascontiguousarray(image),
        points=points,
        point_locations=np.array(LOCATION_ORDER)[sample.point_locations],
        vessels=None if vessels is None else VESSEL_ORDER[vessels],
    )


def mirror_images(images: Tensor, in_columns: Tensor) -> Tensor:
    """(batch, n_slices, rows, columns) windows of the heads with left and right exchanged.

    `in_columns` (batch,) bool tells whose columns hold the left-right axis (left_right_in_columns).
    """
    return torch.where(in_columns[:, None, None, None], images.flip(3), images.flip(1))


def mirror_answer(answer: Tensor, in_columns: Tensor) -> Tensor:
    """(batch, 14) or (batch, 14, n, n) answers about mirrored windows, as answers about the windows themselves.

    `in_columns` as in mirror_images: where it is true, the maps' columns change places, too.
    """
    own = answer[:, LABEL_ORDER]
    return torch.where(in_columns[:, None, None, None], own.flip(3), own) if own.ndim == 4 else own


def mirror_logits(logits: Array) -> Array:
    """(..., 14) outputs for mirrored windows, as outputs for the windows themselves: left and right are exchanged."""
    return logits[..., LABEL_ORDER]
