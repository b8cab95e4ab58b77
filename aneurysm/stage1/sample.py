"""A training sample of stage 1, its random crop, and left-right mirroring, also of images and predictions for TTA."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.folds.targets import labels_of
from aneurysm.labels import LOCATIONS, MIRROR

Array = TypeVar("Array")  # numpy array or torch tensor: both support indexing by lists
LABEL_ORDER = list(MIRROR)
LOCATION_ORDER = LABEL_ORDER[: len(LOCATIONS)]
VESSEL_ORDER = np.array([0, *(1 + i for i in LOCATION_ORDER)], np.uint8)
MARGIN = 1 / 8  # least distance of the chosen localizer from the edge of the crop, as a fraction of its side


@dataclass(frozen=True)
class Sample:
    """A window with its annotations, which augmentation and mirroring transform together.

    image            (rows, columns, n_slices) float32 in [0, 1]; the channels are slices from below to above the
                     window's centre along the canonical slice axis (aneurysm/dicom/geometry.py)
    points           (n, 2) float32 x (column) and y (row) of the localizers in pixels of `image`, pixel centres on
                     whole numbers
    point_locations  (n,) int64 index of each point's location in LOCATIONS
    vessels          (rows, columns) uint8: 0 background, 1..13 is 1 + index in LOCATIONS (not the numbers of the mask
                     files); None where the series has no mask
    corner           (left column, top row) of a crop in the whole input
    """

    image: np.ndarray
    points: np.ndarray
    point_locations: np.ndarray
    vessels: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)

    @property
    def labels(self) -> np.ndarray:
        """(14,) float32 in the order of LABELS, of the localizers in `points`."""
        return labels_of(self.point_locations)


def mirror(sample: Sample, plane: str) -> Sample:
    """The sample with left and right swapped, labels included; in sagittal series this reverses the slices."""
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
    """Windows (batch, n_slices, rows, columns) with left and right swapped.

    `in_columns` (batch,) bool: whether left-right is the column axis (left_right_in_columns), else the slice axis.
    """
    return torch.where(in_columns[:, None, None, None], images.flip(3), images.flip(1))


def mirror_prediction(prediction: Tensor, in_columns: Tensor) -> Tensor:
    """Predictions (batch, 14) or (batch, 14, n, n) of mirrored windows, converted to the original windows.

    Swaps left and right labels and, where `in_columns` (as in mirror_images) is True, the columns of maps.
    """
    own = prediction[:, LABEL_ORDER]
    return torch.where(in_columns[:, None, None, None], own.flip(3), own) if own.ndim == 4 else own


def mirror_logits(logits: Array) -> Array:
    """(..., 14) logits, or other values per label, with the left and right labels swapped."""
    return logits[..., LABEL_ORDER]


def random_crop(sample: Sample, size: int, away_p: float, rng: np.random.Generator) -> Sample:
    """A random crop of `size` x `size` pixels; localizers outside it are dropped, and their labels with them.

    Contains a random localizer if there is any; with probability `away_p` the position is uniform instead, mostly a
    negative crop of the same slice. Returns the sample itself if `size` is 0 or at least that of the image.
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
    """Random first row or column of the crop; `shown` is inside by MARGIN, as far as the image allows."""
    low, high = 0, n_pixels - size
    if shown is not None:
        margin = size * MARGIN
        low = int(np.clip(np.ceil(shown - (size - 1 - margin)), low, high))
        high = int(np.clip(np.floor(shown - margin), low, high))
    return int(rng.integers(low, high + 1))
