"""Training targets: the localizers of a series, their 14 labels, and masks of aneurysms with a rim to ignore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aneurysm.labels import LABELS, LOCATIONS

RIM = 255  # target value at the border of an aneurysm, which the loss ignores
LEAST_RIM, LEAST_SAC = 0.02, 0.15  # a sac is marked with a rim, and as a sac, if it fills this share of some pixel
_NUMBER = {location: i for i, location in enumerate(LOCATIONS)}


@dataclass(frozen=True)
class Localizers:
    """The placed localizers of one series: positions along the slice axis, x and y in pixels of the cache."""

    position_mm: np.ndarray  # (n,)
    points: np.ndarray  # (n, 2)
    locations: np.ndarray  # (n,) index into LOCATIONS

    def near(self, position_mm: float, label_mm: float) -> Localizers:
        """The localizers within `label_mm` of a slice at `position_mm`."""
        return self.subset(np.abs(self.position_mm - position_mm) <= label_mm + 1e-6)

    def subset(self, mask: np.ndarray) -> Localizers:
        """The localizers where `mask` (n,) is True."""
        return Localizers(self.position_mm[mask], self.points[mask], self.locations[mask])

    def labels(self) -> np.ndarray:
        """(14,) float32, see labels_of."""
        return labels_of(self.locations)


def shown_locations(target: np.ndarray) -> np.ndarray:
    """(n,) sorted indices into LOCATIONS of the sacs in a target (see mark_sac)."""
    return np.unique(target[(target > 0) & (target != RIM)]).astype(int) - 1


def labels_of(locations: np.ndarray) -> np.ndarray:
    """(14,) float32: 1 for each of these indices into LOCATIONS, and for Aneurysm Present if there are any."""
    labels = np.zeros(len(LABELS), np.float32)
    labels[locations] = 1
    labels[-1] = labels[:-1].max()
    return labels


def localizers_by_series(spots: pd.DataFrame) -> dict[str, Localizers]:
    """The localizers of each series, from the positive rows of train_stage1_{F}_folds.csv."""
    positives = spots[spots.kind == "positive"]
    return {
        uid: Localizers(
            rows.position_mm.to_numpy(float),
            rows[["x", "y"]].to_numpy(np.float32),
            rows.location.map(_NUMBER).to_numpy(np.int64),
        )
        for uid, rows in positives.groupby("SeriesInstanceUID")
    }


NONE = Localizers(np.empty(0), np.empty((0, 2), np.float32), np.empty(0, np.int64))


def mark_sac(target: np.ndarray, share: np.ndarray, location: int) -> None:
    """Marks a sac in `target` (uint8, in place): 1 + `location` in the sac, RIM at its border.

    `share` in [0, 1] is how much of each pixel the sac fills. A pixel belongs to the sac if its share is at least half
    of the largest one, so that thin caps and sacs smaller than a pixel are marked, too.
    """
    if share.max() > LEAST_RIM:
        target[share > 0.1 * share.max()] = RIM
    if share.max() > LEAST_SAC:
        target[share >= 0.5 * share.max()] = 1 + location


def ball_target(
    points: np.ndarray, locations: np.ndarray, pixel_mm: Sequence[float], counts: Sequence[int], stride: int,
    ball_mm: float, rim_mm: float,
) -> np.ndarray:  # fmt: skip
    """A target of shape `counts`, uint8: 1 + index into LOCATIONS in a ball (or disc) around each point, RIM around it.

    points (n, axes) in pixels of the input, whose size is `pixel_mm`; a target pixel spans `stride` of them.
    `ball_mm` and `rim_mm` are diameters. The target pixel that contains a point always belongs to its ball. Where balls
    overlap, the nearer point wins.
    """
    target, nearest = np.zeros(counts, np.uint8), np.full(counts, np.inf)
    centres = [(np.arange(n) + 0.5) * stride - 0.5 for n in counts]
    for point, location in zip(points, locations, strict=True):
        apart = [(c - x) * mm for c, x, mm in zip(centres, point, pixel_mm, strict=True)]
        away = np.sqrt(sum(np.square(own) for own in np.ix_(*apart)))
        inside = away <= ball_mm / 2
        own_pixel = np.floor((np.asarray(point) + 0.5) / stride).astype(int)
        if (own_pixel >= 0).all() and (own_pixel < counts).all():
            inside[tuple(own_pixel)] = True
        target[(away <= rim_mm / 2) & (target == 0)] = RIM
        own = inside & (away < nearest)
        target[own], nearest[own] = 1 + location, away[own]
    return target
