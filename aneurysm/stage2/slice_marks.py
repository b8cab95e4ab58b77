"""Which slices of a training series show an aneurysm: more to learn from than one answer a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aneurysm.folds.spots import excluded_series
from aneurysm.folds.targets import NONE, Localizers, localizers_by_series
from aneurysm.labels import LABELS
from aneurysm.stage2.config import LossConfig


@dataclass(frozen=True)
class SliceMarks:
    """Where the aneurysms of each series lie along the slice axis."""

    localizers: Mapping[str, Localizers]
    barred: frozenset[str]  # series whose aneurysms are not all marked

    @classmethod
    def of(cls, series: pd.DataFrame, spots: pd.DataFrame, unplaced: pd.DataFrame) -> SliceMarks:
        """From the tables of create_folds.py."""
        barred = excluded_series(series, spots[spots.kind == "positive"], unplaced)
        return cls(localizers_by_series(spots), frozenset(barred))

    def labels(self, uid: str, position_mm: np.ndarray, config: LossConfig) -> np.ndarray:
        """(slices, 14) float32: 1 where the slice shows such an aneurysm, 0 where it shows none at all, else NaN."""
        found = np.full((len(position_mm), len(LABELS)), np.nan, np.float32)
        if uid in self.barred:
            return found
        here = self.localizers.get(uid, NONE)
        for row, mm in zip(found, position_mm, strict=True):
            shown = here.near(mm, config.slice_mm)
            if len(shown.points) or not len(here.near(mm, config.clear_mm).points):
                row[:] = shown.labels()
        return found
