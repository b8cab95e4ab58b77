"""Evaluates one stage 1 on new series: spots, whole series, and localizers found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from aneurysm.cache.cache import Cache, open_cache
from aneurysm.folds.tables import read_folds, read_spots
from aneurysm.labels import LABELS, PRESENT
from aneurysm.metrics import label_aucs, weighted_score
from aneurysm.stage1.config import Stage1Config, Tta
from aneurysm.stage1.evaluate import HIT_MM, series_froc, with_pixel_mm
from aneurysm.stage1.localisation import match, points_mm
from aneurysm.stage1.predict import (
    WindowPredictions,
    heatmap_candidates,
    heatmap_maxima,
    predict_series_slices,
    slice_places,
)
from aneurysm.stage1.training import HeldOut
from aneurysm.training.config import InferenceConfig
from aneurysm.training.distributed import DistContext


@dataclass(frozen=True)
class FreshSeries:
    """Series with labels: `series` from read_folds, `spots` from read_spots."""

    cache: Cache
    series: pd.DataFrame
    spots: pd.DataFrame

    @classmethod
    def read(cls, data_dir: Path, folds: int, cache_dir: Path | None = None) -> FreshSeries:
        """All series of a folder with tables of create_folds.py, put into one fold (0)."""
        cache = open_cache(data_dir, cache_dir)
        series, spots = (read(cache.paths.cache, folds).assign(fold=0) for read in (read_folds, read_spots))
        return cls(cache, series, spots)

    def predict_spots(
        self, model: nn.Module, config: Stage1Config, world: DistContext, inference: InferenceConfig, tta: Tta = "none"
    ) -> tuple[HeldOut, WindowPredictions]:
        held_out = HeldOut.from_spots(self.spots, config)
        return held_out, held_out.predict(model, self.cache, config, world, inference, "spots", tta)

    def predict_slices(
        self, model: nn.Module, config: Stage1Config, world: DistContext, inference: InferenceConfig,
        slice_spacing_mm: float, tta: Tta = "none",
    ) -> pd.DataFrame:  # fmt: skip
        """predict_series_slices for all cached series."""
        cached = self.series.SeriesInstanceUID[self.series.n_slices.notna()].tolist()
        places = slice_places(self.cache, cached, slice_spacing_mm)
        return predict_series_slices(model, self.cache, places, config, world, inference, "series", tta).assign(fold=0)

    def scores(
        self,
        model: nn.Module,
        config: Stage1Config,
        world: DistContext,
        inference: InferenceConfig,
        slice_spacing_mm: float,
    ) -> dict[str, float]:
        """Scores for the training history: AUCs of spots and series, by logits and by maps, sensitivity at 1 and 4
        false positives per series (found_at_*), and own_peak_above."""
        held_out, predictions = self.predict_spots(model, config, world, inference)
        slices = self.predict_slices(model, config, world, inference, slice_spacing_mm)
        series = self.series.set_index("SeriesInstanceUID").loc[slices.SeriesInstanceUID.unique()]
        of_logits = slices.groupby("SeriesInstanceUID")[list(LABELS)].max()
        scores = {}
        for name, windows, highest in (
            ("map", predictions.heatmap_max, heatmap_maxima(slices)), ("logits", predictions.probability, of_logits),
        ):  # fmt: skip
            aucs = label_aucs(series[list(LABELS)].to_numpy(), highest.loc[series.index].to_numpy())
            scores |= {
                f"{name}_spots": label_aucs(held_out.truth, windows)[-1], f"{name}_series": aucs[-1],
                f"{name}_locations": np.nanmean(aucs[:-1]), f"{name}_score": weighted_score(aucs),
            }  # fmt: skip
        found = series_froc(slices, self.spots, len(series), self.cache).set_index("allowed").sensitivity
        scores |= {"found_at_1": found[1.0], "found_at_4": found[4.0], "own_peak_above": self.own_peak_above(slices)}
        return {name: float(value) for name, value in scores.items()}

    def own_peak_above(self, slices: pd.DataFrame) -> float:
        """Fraction of (localizer, negative series) pairs where the peak at the localizer is higher; NaN without."""
        placed = points_mm(with_pixel_mm(self.spots[self.spots.kind == "positive"], self.cache))
        negative = self.series.SeriesInstanceUID[self.series[PRESENT] == 0]
        others = heatmap_maxima(slices)[PRESENT].reindex(negative).dropna().to_numpy()
        own = own_peaks(slices, placed)
        return float((own[:, None] > others[None]).mean()) if len(own) and len(others) else np.nan


def own_peaks(slices: pd.DataFrame, localizers: pd.DataFrame) -> np.ndarray:
    """(localizers,) highest peak of the aneurysm map within HIT_MM of each localizer; 0 without one."""
    best, _ = match(points_mm(heatmap_candidates(slices, [PRESENT])), localizers, HIT_MM)
    return np.maximum(best, 0)
