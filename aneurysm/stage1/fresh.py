"""Stage 1 as it is on series that nobody trained on: spots, whole series, localizers found, by size of the sac."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from aneurysm.data.cache import open_cache
from aneurysm.data.tables import labelled_series, read_spots
from aneurysm.labels import LABELS, PRESENT
from aneurysm.metrics import label_aucs, weighted_score
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.localisation import froc, points_mm, suppress
from aneurysm.stage1.run import HeldOut
from aneurysm.stage1.whole_series import ask_series, heat_candidates, highest_heat, slice_places
from aneurysm.training.config import InferenceConfig
from aneurysm.training.distributed import World

HIT_MM, SUPPRESS_MM = 5.0, 10.0
SMALL_MM = 4.5


@dataclass(frozen=True)
class FreshSeries:
    """Cached series with their truth. `folds` is the number that create_folds.py was told; what is in which fold does
    not matter."""

    data_dir: Path
    folds: int
    every_mm: float

    def scores(
        self, model: nn.Module, config: Stage1Config, world: World, inference: InferenceConfig, bar: str = ""
    ) -> tuple[dict[str, float], pd.DataFrame]:
        """What the model's answers are worth, and the answers of all slices (see ask_series)."""
        cache = open_cache(self.data_dir)
        spots = read_spots(cache.paths.cache, self.folds)
        series = labelled_series(cache.paths).set_index("SeriesInstanceUID")
        held_out = HeldOut.from_spots(spots, config)
        answers = held_out.answers(model, cache, config, world, inference, bar)
        places = slice_places(cache, list(series.index), self.every_mm)
        slices = ask_series(model, cache, places, config, world, inference, bar)
        scores = {
            "spots_map": float(label_aucs(held_out.truth, answers.heat)[-1]),
            "spots_logits": float(label_aucs(held_out.truth, answers.probability)[-1]),
        }
        logits = slices.groupby("SeriesInstanceUID")[list(LABELS)].max()
        for name, highest in (("map", highest_heat(slices)), ("logits", logits)):
            scores |= series_scores(series, highest, name)
        return scores | peak_scores(slices, spots, series, cache), slices


def series_scores(series: pd.DataFrame, highest: pd.DataFrame, name: str) -> dict[str, float]:
    aucs = label_aucs(series[list(LABELS)].to_numpy(), highest.loc[series.index].to_numpy())
    return {
        f"{name}_present": float(aucs[-1]), f"{name}_locations": float(np.nanmean(aucs[:-1])),
        f"{name}_score": float(weighted_score(aucs)),
    }  # fmt: skip


def peak_scores(slices: pd.DataFrame, spots: pd.DataFrame, series: pd.DataFrame, cache) -> dict[str, float]:
    """Localizers found at 1 and 4 false peaks a series, and how often an aneurysm's own peak is the higher one of it
    and the highest peak of a series without any."""
    meta = spots.SeriesInstanceUID.map(cache.meta)
    placed = spots.assign(**{n: [m[n] for m in meta] for n in ("cached_col_mm", "cached_row_mm")})
    localizers = points_mm(placed[placed.kind == "positive"])
    candidates = suppress(points_mm(heat_candidates(slices, [PRESENT])), SUPPRESS_MM)
    found = froc(candidates, localizers, len(series), HIT_MM, (1, 4)).sensitivity
    negative = highest_heat(slices)[PRESENT][series[PRESENT] == 0].to_numpy()
    own = own_peaks(slices, localizers)
    above = (own[:, None] > negative[None]).mean() if len(negative) and len(own) else np.nan
    return {"found_at_1": float(found[0]), "found_at_4": float(found[1]), "own_peak_above": float(above)}


def own_peaks(slices: pd.DataFrame, localizers: pd.DataFrame) -> np.ndarray:
    """(localizers,) the highest peak of the map within HIT_MM of each, 0 where there is none."""
    points = points_mm(heat_candidates(slices, [PRESENT])).groupby("SeriesInstanceUID")
    best = []
    for row in localizers.itertuples():
        own = points.get_group(row.SeriesInstanceUID)
        away = np.linalg.norm(own[["x_mm", "y_mm", "z_mm"]].to_numpy() - [row.x_mm, row.y_mm, row.z_mm], axis=1)
        best.append(own.probability[away <= HIT_MM].max() if (away <= HIT_MM).any() else 0.0)
    return np.array(best)
