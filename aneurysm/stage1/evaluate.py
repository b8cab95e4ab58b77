"""Stage 1 on what it was not trained on: the spots of its own fold, and whole series of it."""

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

SUPPRESS_MM = 10.0  # of two peaks this near to each other, the lower one is left out
HIT_MM = 5.0  # a peak this near to a localizer finds it


@dataclass(frozen=True)
class Evaluation:
    """One fold's answers about its held-out windows."""

    table: pd.DataFrame  # one row a window: series, fold, slice, position_mm, modality, plane, 14 probabilities
    truth: np.ndarray  # (windows, 14)
    peaks: pd.DataFrame | None  # one row a positive spot: peak of its location's heatmap; None without that head
    outside: str = ""  # how many localizers the crop does not show


def trained_folds(model_paths: ModelPaths, folds: Sequence[int]) -> list[int]:
    """Those of `folds` that have a model; ValueError naming the folder where none has."""
    trained = [fold for fold in folds if model_paths.stage1(fold).exists()]
    if not trained:
        asked = folds[0] if len(folds) == 1 else "<k>"
        raise ValueError(f"{model_paths.folder}: expected fold-{asked}/last.pth, found none; has train_stage1.py run?")
    return trained


def evaluate_fold(
    cache: Cache, spots: pd.DataFrame, model_paths: ModelPaths, fold: int, world: DistContext,
    inference: InferenceConfig, tta: Tta = "none",
) -> Evaluation:  # fmt: skip
    """What the model that has not seen `fold` says about its spots. Raises ValueError where it has seen them."""
    model, config = load_stage1(model_paths.stage1(fold), world.device, unseen=fold)
    own = spots[spots.fold == fold]
    held_out = HeldOut.from_spots(own, config)
    predictions = held_out.predict(model, cache, config, world, inference, f"fold {fold}", tta)
    peaks = (
        with_pixel_mm(held_out.peaks(predictions, own, config.input), cache) if config.heads.heatmap_weight else None
    )
    return Evaluation(held_out.table(predictions), held_out.truth, peaks, outside_text(own, config.input))


def windows_text(evaluation: Sequence[Evaluation]) -> str:
    """The tables of AUCs over all folds' windows, and how far heatmap peaks lie from the localizers."""
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
    """As predict_series_slices, of all series of a fold by the model that has not seen them, with a column `fold`.

    Raises ValueError where the model has seen them, or none is in the cache.
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
    """As ask_fold, by the workers of a Dask cluster; without the series that are in `workers.failures` then.

    Raises ValueError where no series is in the cache, or none has an answer.
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
    """What a model says about the slices of one series: a question for DaskWorkers."""
    cache, inference = Cache(cache_dir), replace(inference, workers=0)
    return predict_series_slices(
        model, cache, slice_places(cache, [series_uid], slice_spacing_mm), config, ALONE, inference, bar=""
    )


def series_text(slices: pd.DataFrame, series: pd.DataFrame, spots: pd.DataFrame, cache: Cache) -> str:
    """The tables of AUCs of the maximum over a series' slices, of logits and of maps, and the FROC of the peaks.

    A series of these folds that is not in the cache counts, with the mean probabilities of the others.
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
    """Sensitivity at 0.5, 1, 2 and 4 false positives per series."""
    candidates = suppress(points_mm(heatmap_candidates(slices, [PRESENT])), SUPPRESS_MM)
    localizers = spots[(spots.kind == "positive") & spots.SeriesInstanceUID.isin(slices.SeriesInstanceUID)]
    return froc(candidates, points_mm(with_pixel_mm(localizers, cache)), n_series, HIT_MM)


def with_pixel_mm(rows: pd.DataFrame, cache: Cache) -> pd.DataFrame:
    """`rows` with cached_col_mm and cached_row_mm of their series."""
    meta = rows.SeriesInstanceUID.map(cache.meta)
    return rows.assign(**{name: [m[name] for m in meta] for name in ("cached_col_mm", "cached_row_mm")})


def _cached(series: pd.DataFrame, fold: int) -> list[str]:
    found = series.SeriesInstanceUID[(series.fold == fold) & series.n_slices.notna()].tolist()
    if not found:
        raise ValueError(f"fold {fold}: expected series in the cache, found none; has preprocess_data.py run?")
    return found


def _numbers(folds: pd.Series) -> str:
    return ", ".join(str(fold) for fold in sorted(folds.unique()))
