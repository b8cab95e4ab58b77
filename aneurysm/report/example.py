"""The held-out series that figures show, and what models that have not seen it say about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from aneurysm.cache.cache import Cache
from aneurysm.cache.features import SeriesFeatures, n_sampled_slices, read_features
from aneurysm.cache.windows import Box, crop_box, read_window
from aneurysm.dicom.mapping import SIZE
from aneurysm.folds.tables import read_folds, read_spots
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.paths import ModelPaths
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.localisation import POINT, points_mm
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.predict import load_stage1
from aneurysm.stage2.evaluate import Evaluation, evaluate_folds, folds_with_stage2
from aneurysm.training.distributed import DistContext

FOUND_MM = 3.0  # a series counts as well found where its highest heatmap peaks within this of a localizer


@dataclass(frozen=True)
class Example:
    """A positive series of a fold, and the answers of that fold's models.

    series        its row of train_{F}_folds.csv
    localizers    its positive spots
    probability   (14,) of stage 2
    prevalence    (14,) share of positives among the series of the other folds
    chosen        a sentence: how it was chosen
    """

    cache: Cache
    series: pd.Series
    localizers: pd.DataFrame
    features: SeriesFeatures
    probability: np.ndarray
    prevalence: np.ndarray
    stage1: Stage1Net
    config: Stage1Config
    chosen: str

    @property
    def uid(self) -> str:
        return self.series.SeriesInstanceUID

    @cached_property
    def peak(self) -> dict[str, float]:
        """See highest_peak."""
        return highest_peak(self.features)

    @property
    def truth(self) -> np.ndarray:
        """(14,) 0 or 1"""
        return self.series[list(LABELS)].to_numpy(int)

    @property
    def curve(self) -> np.ndarray:
        """(sampled slices,) stage 1's probability of Aneurysm Present."""
        return 1 / (1 + np.exp(-self.features.logits[0, :, LABELS.index(PRESENT)].astype(float)))

    @property
    def box(self) -> Box:
        return crop_box(self.config.input, self.series["plane"])

    def window(self) -> np.ndarray:
        """(image_size, image_size, n_slices) the window around the slice where the highest map peaks."""
        config, index = self.config.input, int(self.peak["slice"])
        return read_window(self.cache, self.uid, index, config.neighbour_mm, self.box, config.n_slices)

    @torch.inference_mode()
    def heat(self) -> np.ndarray:
        """(n, n) of that window, in [0, 1]: the map of all aneurysms."""
        image = torch.from_numpy(self.window()).permute(2, 0, 1)[None]
        return self.stage1(image)["heat"][0, -1].float().sigmoid().numpy()


def held_out_example(cache: Cache, model_paths: ModelPaths, n_folds: int, world: DistContext) -> Example:
    """Of the well-found positive series the one in the middle, by stage 2's answer; where there is none, the nearest.

    Raises ValueError naming the file where a table, model or feature is missing, or a model has seen its fold.
    """
    folder = cache.paths.cache
    series, spots = read_folds(folder, n_folds), read_spots(folder, n_folds)
    evaluation = evaluate_folds(series, model_paths, folds_with_stage2([model_paths], range(n_folds)), world)
    positives = spots[spots.kind == "positive"]
    misses = _misses_mm(cache, evaluation, positives, model_paths)
    if not misses:
        raise ValueError(f"{model_paths.folder}: expected heatmaps of a held-out series with a localizer, found none")
    number, chosen = _middle(evaluation, misses)
    row = evaluation.series.iloc[number]
    stage1, config = load_stage1(model_paths.stage1(row.fold), unseen=row.fold)
    return Example(
        cache, row, positives[positives.SeriesInstanceUID == row.SeriesInstanceUID],
        read_features(_path(model_paths, row)), evaluation.stage2[number],
        series.loc[series.fold != row.fold, list(LABELS)].mean().to_numpy(float), stage1, config, chosen,
    )  # fmt: skip


def highest_peak(features: SeriesFeatures) -> dict[str, float]:
    """Where the highest heatmap of a series peaks: slice, position_mm, x, y (pixels of the cache), location, heat."""
    heat = features.heat[0, :, : len(LOCATIONS)]
    number, location = np.unravel_index(np.nanargmax(heat), heat.shape)
    x, y = (float(peaks[0, number, location]) * SIZE - 0.5 for peaks in (features.peak_x, features.peak_y))
    return {
        "slice": int(features.slice[number]), "position_mm": float(features.position_mm[number]), "x": x, "y": y,
        "location": LOCATIONS[location], "heat": float(1 / (1 + np.exp(-float(heat[number, location])))),
    }  # fmt: skip


def miss_mm(peak: dict[str, float], localizers: pd.DataFrame, meta: dict) -> float:
    """Distance of a peak from the nearest localizer of its series; `meta` is the series' row of train_meta.csv."""
    about = {name: meta[name] for name in ("cached_col_mm", "cached_row_mm")}
    here, marked = (points_mm(rows.assign(**about)) for rows in (pd.DataFrame([peak]), localizers))
    return float(np.linalg.norm(marked[POINT].to_numpy(float) - here[POINT].to_numpy(float), axis=1).min())


def _path(model_paths: ModelPaths, row: pd.Series) -> Path:
    return model_paths.features(row.fold) / f"{row.SeriesInstanceUID}.safetensors"


def _misses_mm(
    cache: Cache, evaluation: Evaluation, positives: pd.DataFrame, model_paths: ModelPaths
) -> dict[int, float]:
    """Row of `judged` -> distance of the series' highest peak from its localizers, where there are both."""
    marked = dict(list(positives.groupby("SeriesInstanceUID")))
    misses = {}
    for number, row in evaluation.series.iterrows():
        uid, path = row.SeriesInstanceUID, _path(model_paths, row)
        if uid in marked and n_sampled_slices(path):
            features = read_features(path)
            if np.isfinite(features.heat[0]).any():
                misses[number] = miss_mm(highest_peak(features), marked[uid], cache.meta(uid))
    return misses


def _middle(evaluation: Evaluation, misses: dict[int, float]) -> tuple[int, str]:
    """The row of the chosen series, and how it was chosen."""
    present = LABELS.index(PRESENT)
    found = sorted((n for n, mm in misses.items() if mm <= FOUND_MM), key=lambda n: evaluation.stage2[n, present])
    if not found:
        return min(misses, key=misses.get), f"none of {len(misses)} positive series is well found: the nearest"
    rule = f"of {len(misses)} positive series, {len(found)} have the highest heatmap within {FOUND_MM:g} mm of a"
    return found[len(found) // 2], f"{rule} localizer: of these the one in the middle, by stage 2's answer"
