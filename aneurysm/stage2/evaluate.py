"""Evaluates stage 2 on held-out series and compares it with the maximum of stage 1 over the slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.scores import compared_text, score_text, series_subgroups
from aneurysm.stage2.predict import load_stage2
from aneurysm.stage2.training import HeldOut
from aneurysm.training.distributed import DistContext

MAX_BASELINE, BY_MAP = "maximum over slices", "maximum of the maps"


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one encoder for its held-out series."""

    series: pd.DataFrame  # rows of train_{F}_folds.csv of the folds, one after another
    stage2: np.ndarray  # (series, 14) probabilities
    max_baseline: np.ndarray  # (series, 14) highest probability of stage 1 over the slices
    n_missing: int  # series without features, predicted by the training prevalence
    by_map: np.ndarray | None = None  # (series, 14) maximum of each label's heatmap over the slices; NaN without

    @property
    def truth(self) -> np.ndarray:
        """(series, 14) 0 or 1"""
        return self.series[list(LABELS)].to_numpy(int)

    def table(self) -> pd.DataFrame:
        """SeriesInstanceUID, fold and the 14 probabilities of stage 2."""
        return self.series[["SeriesInstanceUID", "fold"]].join(pd.DataFrame(self.stage2, columns=list(LABELS)))


def evaluate_folds(
    series: pd.DataFrame,
    model_paths: ModelPaths,
    folds: Sequence[int | None],
    world: DistContext,
    by_header: bool = False,
) -> Evaluation:
    """Predictions of each fold's model for its held-out series; fold None, trained on another data set, predicts all.

    `by_header` as in HeldOut.predict. Raises ValueError if a model was trained on the series to predict.
    """
    parts = []
    for fold in folds:
        model, config = load_stage2(model_paths.stage2(fold) / "last.pth", world.device, unseen=fold)
        held_out = HeldOut.all_of(series, model_paths) if fold is None else HeldOut.of_fold(series, model_paths, fold)
        predictions = held_out.predict(model, config, world, f"fold {fold}", by_header)
        maxima = [held_out.max_baselines(config.tokens.tta, world, of) for of in ("logits", "heatmap_max")]
        parts.append((held_out, predictions, *maxima))
    return Evaluation(
        series=pd.concat([held_out.series for held_out, *_ in parts], ignore_index=True),
        stage2=np.concatenate([predictions for _, predictions, *_ in parts]),
        max_baseline=np.concatenate([of_logits for _, _, of_logits, _ in parts]),
        n_missing=sum(int((~held_out.has_features).sum()) for held_out, *_ in parts),
        by_map=np.concatenate([by_map for *_, by_map in parts]),
    )


def encoder_text(evaluation: Evaluation) -> str:
    """AUC tables of stage 2, and its comparison with the baselines, as text."""
    predictions = {"stage 2": evaluation.stage2}
    if evaluation.by_map is not None and np.isfinite(evaluation.by_map).all():
        predictions[BY_MAP] = evaluation.by_map
    predictions[MAX_BASELINE] = evaluation.max_baseline
    return "\n\n".join(
        [evaluation_text("stage 2", evaluation, evaluation.stage2), compared_text(evaluation.truth, predictions)]
    )


def ensemble_text(evaluation: dict[str, Evaluation]) -> str:
    """Scores of several encoders and of their ensembles: mean probability, and mean rank within the fold, as text.

    `evaluation` maps encoder names to evaluations. Raises ValueError if they have different series.
    """
    first, names = next(iter(evaluation.values())), ", ".join(evaluation)
    if any(not j.series.SeriesInstanceUID.equals(first.series.SeriesInstanceUID) for j in evaluation.values()):
        raise ValueError(f"{names}: expected predictions for the same series")
    fold = first.series.fold.to_numpy()
    probabilities = np.mean([j.stage2 for j in evaluation.values()], axis=0)
    ranks = np.mean([ranks_in_folds(j.stage2, fold) for j in evaluation.values()], axis=0)
    predictions = {f"stage 2 of {name}": j.stage2 for name, j in evaluation.items()}
    predictions |= {"mean of probabilities": probabilities, "mean of ranks": ranks}
    predictions[f"{MAX_BASELINE}, mean"] = np.mean([j.max_baseline for j in evaluation.values()], axis=0)
    title = f"mean of probabilities of {names}"
    return "\n\n".join([evaluation_text(title, first, probabilities), compared_text(first.truth, predictions)])


def ranks_in_folds(predictions: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(series, 14) rank of each prediction within its label and fold, in (0, 1]; ties get their mean rank."""
    ranks = np.empty(predictions.shape)
    for own in (fold == k for k in np.unique(fold)):
        ranks[own] = rankdata(predictions[own], axis=0) / own.sum()
    return ranks


def evaluation_text(title: str, evaluation: Evaluation, predictions: np.ndarray) -> str:
    """Scores of `predictions` (series, 14) for the series of `evaluation`, by label and subgroup, as text."""
    folds = ", ".join(str(fold) for fold in sorted(evaluation.series.fold.unique()))
    subgroups = series_subgroups(evaluation.series)
    missing = f"{evaluation.n_missing} without features, whose answer is the other folds' prevalence"
    scores = score_text(evaluation.truth, predictions, subgroups)
    return f"{title}, held-out series of fold {folds}; {missing}\n{scores}"
