"""A random part of a training sample: a convolutional encoder learns as much from it, for less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aneurysm.stage1.sample import Sample

MARGIN = 1 / 8  # of the part's side: a localizer that is shown lies no nearer to its edge, where the image allows


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
