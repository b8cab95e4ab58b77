"""Evaluates stage 1 on its held-out fold: windows of spots, and whole series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from aneurysm.cache.cache import Cache
from aneurysm.labels import LABELS, PRESENT
from aneurysm.paths import ModelPaths
from aneurysm.scores import compared_text, score_text, series_subgroups
from aneurysm.stage1.config import Stage1Config, Tta
from aneurysm.stage1.localisation import froc, localisation, points_mm, suppress
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.on_dask import ALONE, DaskWorkers
from aneurysm.stage1.predict import heatmap_candidates, heatmap_maxima, load_stage1, predict_series_slices, slice_places
from aneurysm.stage1.training import HeldOut, outside_text
from aneurysm.training.config import InferenceConfig
from aneurysm.training.distributed import DistContext

SUPPRESS_MM = 10.0  # non-maximum suppression: radius
HIT_MM = 5.0  # a peak within this distance of a localizer is a hit


@dataclass(frozen=True)
class Evaluation:
    """Predictions for the windows of a held-out fold."""

    table: pd.DataFrame  # one row per window: series, fold, slice, position_mm, modality, plane, 14 probabilities
    truth: np.ndarray  # (windows, 14)
    peaks: pd.DataFrame | None  # one row per positive spot: peak of its location's heatmap; None without heatmaps
    outside: str = ""  # number of localizers outside the crop, as text


def evaluate_fold(
    cache: Cache, spots: pd.DataFrame, model_paths: ModelPaths, fold: int, world: DistContext,
    inference: InferenceConfig, tta: Tta = "none",
) -> Evaluation:  # fmt: skip
    """Predictions for the spots of `fold` by the model that held it out; ValueError if the model was trained on it."""
    model, config = load_stage1(model_paths.stage1(fold), world.device, unseen=fold)
    own = spots[spots.fold == fold]
    held_out = HeldOut.from_spots(own, config)
    predictions = held_out.predict(model, cache, config, world, inference, f"fold {fold}", tta)
    peaks = (
        with_pixel_mm(held_out.peaks(predictions, own, config.input), cache) if config.heads.heatmap_weight else None
    )
    return Evaluation(held_out.table(predictions), held_out.truth, peaks, outside_text(own, config.input))


def windows_text(evaluation: Sequence[Evaluation]) -> str:
    """AUC tables of the windows of all folds, and distances of heatmap peaks from the localizers."""
    table, truth = pd.concat([j.table for j in evaluation]), np.concatenate([j.truth for j in evaluation])
    predicted, subgroups = table[list(LABELS)].to_numpy(), table[["modality", "plane"]]
    text = f"windows of spots, fold {_numbers(table.fold)}\n"
    text += score_text(truth, predicted, subgroups, groups=table.SeriesInstanceUID)
    text += "".join(f"\nfold {j.table.fold.iloc[0]}: {j.outside}" for j in evaluation if j.outside)
    if any(j.peaks is None for j in evaluation):
        return text + "\n\nno heatmaps"
    shares = localisation(pd.concat([j.peaks for j in evaluation]))
    return f"{text}\n\npeak of the location's heatmap, against its localizer\n{shares.round(3).to_string()}"


def predict_fold(
    cache: Cache, series: pd.DataFrame, model_paths: ModelPaths, fold: int, slice_spacing_mm: float,
    inference: InferenceConfig, world: DistContext,
) -> pd.DataFrame:  # fmt: skip
    """predict_series_slices for the cached series of a fold, by the model that held it out, with a column `fold`.

    Raises ValueError if the model was trained on the fold, or no series of it is in the cache.
    """
    cached = _cached(series, fold)
    model, config = load_stage1(model_paths.stage1(fold), world.device, unseen=fold)
    places = slice_places(cache, cached, slice_spacing_mm)
    return predict_series_slices(model, cache, places, config, world, inference, f"series of fold {fold}").assign(
        fold=fold
    )


def predict_fold_on_dask(
    cache: Cache, series: pd.DataFrame, model_paths: ModelPaths, fold: int, slice_spacing_mm: float,
    inference: InferenceConfig, workers: DaskWorkers,
) -> pd.DataFrame:  # fmt: skip
    """As predict_fold, on the workers of a Dask cluster; without series that fail (see `workers.failures`).

    Raises ValueError if no series is in the cache, or all fail.
    """
    cached = _cached(series, fold)
    question = partial(
        slices_of, cache_dir=cache.paths.cache.absolute(), slice_spacing_mm=slice_spacing_mm, inference=inference
    )
    done = workers.predict(question, model_paths.stage1(fold), fold, cached)
    tables = dict(tqdm(done, total=len(cached), desc=f"series of fold {fold}", leave=False))
    if not tables:
        workers.check()
    return pd.concat([tables[uid] for uid in cached if uid in tables], ignore_index=True).assign(fold=fold)


def slices_of(
    model: Stage1Net, config: Stage1Config, series_uid: str, *, cache_dir: Path, slice_spacing_mm: float,
    inference: InferenceConfig,
) -> pd.DataFrame:  # fmt: skip
    """predict_series_slices for one series; runs on a Dask worker."""
    cache, inference = Cache(cache_dir), replace(inference, workers=0)
    return predict_series_slices(
        model, cache, slice_places(cache, [series_uid], slice_spacing_mm), config, ALONE, inference, bar=""
    )


def series_text(slices: pd.DataFrame, series: pd.DataFrame, spots: pd.DataFrame, cache: Cache) -> str:
    """AUC tables of the series, scored by the maximum over slices of logits and of maps, and the FROC of the peaks.

    Series of these folds that are not in the cache get the mean scores of the others.
    """
    own = series[series.fold.isin(slices.fold.unique())].set_index("SeriesInstanceUID")
    highest = slices.groupby("SeriesInstanceUID")[list(LABELS)].max().reindex(own.index)
    n_missing = int(highest.isna().any(axis=1).sum())
    predicted = highest.fillna(highest.mean()).to_numpy()
    text = f"maximum over the slices of a series, fold {_numbers(own.fold)}; {n_missing} series not in the cache\n"
    text += score_text(own[list(LABELS)].to_numpy(), predicted, series_subgroups(own))
    if slices[f"{PRESENT} heatmap_max"].isna().all():
        return text
    by_map = heatmap_maxima(slices).reindex(own.index)
    predictions = {"maximum of the maps": by_map.fillna(by_map.mean()).to_numpy(), "maximum of the logits": predicted}
    text += f"\n\n{compared_text(own[list(LABELS)].to_numpy(), predictions)}"
    found = series_froc(slices, spots, len(own), cache)
    title = f"FROC: peaks of the map of all aneurysms within {HIT_MM:g} mm of a localizer"
    return f"{text}\n\n{title}\n{found.round(3).to_string(index=False)}"


def series_froc(slices: pd.DataFrame, spots: pd.DataFrame, n_series: int, cache: Cache) -> pd.DataFrame:
    """froc() of the peaks of the aneurysm map: sensitivity at 0.5, 1, 2 and 4 false positives per series."""
    candidates = suppress(points_mm(heatmap_candidates(slices, [PRESENT])), SUPPRESS_MM)
    localizers = spots[(spots.kind == "positive") & spots.SeriesInstanceUID.isin(slices.SeriesInstanceUID)]
    return froc(candidates, points_mm(with_pixel_mm(localizers, cache)), n_series, HIT_MM)


def with_pixel_mm(rows: pd.DataFrame, cache: Cache) -> pd.DataFrame:
    """`rows` with the pixel spacing of their series in the cache: cached_col_mm and cached_row_mm."""
    meta = rows.SeriesInstanceUID.map(cache.meta)
    return rows.assign(**{name: [m[name] for m in meta] for name in ("cached_col_mm", "cached_row_mm")})


def _cached(series: pd.DataFrame, fold: int) -> list[str]:
    found = series.SeriesInstanceUID[(series.fold == fold) & series.n_slices.notna()].tolist()
    if not found:
        raise ValueError(f"fold {fold}: expected series in the cache, found none; has preprocess_data.py run?")
    return found


def _numbers(folds: pd.Series) -> str:
    return ", ".join(str(fold) for fold in sorted(folds.unique()))
