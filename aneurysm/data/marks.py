"""Where the aneurysms of a series are marked in the cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from aneurysm.labels import LABELS, LOCATIONS

RIM = 255  # of a pixel in a target: at the border of an aneurysm, where neither answer is wrong
_NUMBER = {location: i for i, location in enumerate(LOCATIONS)}


@dataclass(frozen=True)
class Localizers:
    """The placed localizers of one series: positions along the slice axis, x and y in pixels of the cache."""

    position_mm: np.ndarray  # (n,)
    points: np.ndarray  # (n, 2)
    locations: np.ndarray  # (n,) index into LOCATIONS

    def near(self, position_mm: float, label_mm: float) -> Localizers:
        """Those within `label_mm` of a slice."""
        return self.subset(np.abs(self.position_mm - position_mm) <= label_mm + 1e-6)

    def subset(self, mask: np.ndarray) -> Localizers:
        """Those where `mask` (n,) is true."""
        return Localizers(self.position_mm[mask], self.points[mask], self.locations[mask])

    def labels(self) -> np.ndarray:
        """(14,) float32, as labels_of."""
        return labels_of(self.locations)


def labels_of(locations: np.ndarray) -> np.ndarray:
    """(14,) float32: 1 for each of these indices into LOCATIONS, and for Aneurysm Present where there is any."""
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
