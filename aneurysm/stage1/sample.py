"""A training sample of stage 1, a part of it, and left and right exchanged: also in images and outputs at test time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.folds.targets import labels_of
from aneurysm.labels import LOCATIONS, MIRROR

Array = TypeVar("Array")  # numpy array or torch tensor: both are indexed by lists in the same way
LABEL_ORDER = list(MIRROR)
LOCATION_ORDER = LABEL_ORDER[: len(LOCATIONS)]
VESSEL_ORDER = np.array([0, *(1 + i for i in LOCATION_ORDER)], np.uint8)
MARGIN = 1 / 8  # of the part's side: a localizer that is shown lies no nearer to its edge, where the image allows


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


def mirror_prediction(prediction: Tensor, in_columns: Tensor) -> Tensor:
    """(batch, 14) or (batch, 14, n, n) answers about mirrored windows, as answers about the windows themselves.

    `in_columns` as in mirror_images: where it is true, the maps' columns change places, too.
    """
    own = prediction[:, LABEL_ORDER]
    return torch.where(in_columns[:, None, None, None], own.flip(3), own) if own.ndim == 4 else own


def mirror_logits(logits: Array) -> Array:
    """(..., 14) outputs for mirrored windows, as outputs for the windows themselves: left and right are exchanged."""
    return logits[..., LABEL_ORDER]


def random_crop(sample: Sample, size: int, away_p: float, rng: np.random.Generator) -> Sample:
    """`size` rows and columns of the sample; labels and points are of the localizers that it shows.

    It is laid around a localizer where there is any, and anywhere with the chance `away_p`: a negative, most of the
    time, from the same slice. The whole sample where it is no larger than `size`, or `size` is 0.
    """
    n_pixels = sample.image.shape[0]
    if size == 0 or size >= n_pixels:
        return sample
    around = len(sample.points) > 0 and rng.random() >= away_p
    shown = sample.points[rng.integers(len(sample.points))] if around else None
    left, top = (_start(None if shown is None else shown[axis], size, n_pixels, rng) for axis in (0, 1))
    points = sample.points - np.array([left, top], np.float32)
    inside = ((points >= -0.5) & (points < size - 0.5)).all(axis=1)
    part = (slice(top, top + size), slice(left, left + size))
    return replace(
        sample,
        image=np.ascontiguousarray(sample.image[part]),
        points=points[inside],
        point_locations=sample.point_locations[inside],
        vessels=None if sample.vessels is None else np.ascontiguousarray(sample.vessels[part]),
        corner=(left, top),
    )


def _start(shown: float | None, size: int, n_pixels: int, rng: np.random.Generator) -> int:
    """First row or column of the part; with it, `shown` lies inside by the margin, as far as the image reaches."""
    low, high = 0, n_pixels - size
    if shown is not None:
        margin = size * MARGIN
        low = int(np.clip(np.ceil(shown - (size - 1 - margin)), low, high))
        high = int(np.clip(np.floor(shown - margin), low, high))
    return int(rng.integers(low, high + 1))
