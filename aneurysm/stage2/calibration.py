"""Calibration of stage 2: errors of its probabilities before and after temperature scaling (Guo et al. 2017).

The log-odds of a series are divided by a temperature fitted on the predictions for the other folds. The models of those
predictions were trained on the series, as always in cross-validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from aneurysm.labels import LOCATIONS, PRESENT
from aneurysm.stage2.temperature import ALWAYS, NEVER, at_temperature, log_odds

if TYPE_CHECKING:
    from aneurysm.stage2.evaluate import Evaluation

N_BINS = 10
COLDEST, HOTTEST = 0.05, 20.0  # range of fitted temperatures
GROUPS = {PRESENT: slice(-1, None), f"{len(LOCATIONS)} locations": slice(None, -1)}  # columns of (series, 14) tables


@dataclass(frozen=True)
class Calibrated:
    """Held-out predictions of one encoder, before and after scaling by the temperature of their fold."""

    before: Evaluation
    after: Evaluation
    temperatures: dict[int, float]  # fold -> temperature, fitted on the other folds
    overall: float  # fitted on all folds, for new series

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """(series, 14) probabilities before and after."""
        return {"before": self.before.stage2, "after": self.after.stage2}

    def text(self, name: str) -> str:
        """The temperatures and the calibration errors as text; `name` is the encoder's."""
        table = errors_table(self.before.truth, self.predictions)
        temperatures = ", ".join(f"{value:.3f} in fold {fold}" for fold, value in self.temperatures.items())
        return (
            f"Temperature scaling of stage 2 of {name}: log-odds / temperature, fitted on the other folds' answers\n"
            f"{temperatures}; above 1, the predictions were overconfident\n"
            f"{self.overall:.3f} over all folds, which eval_end_to_end.py --export packs\n"
            "Within a fold the order of the series and so each AUC stays the same; over all folds it may change\n\n"
            f"{table.map('{:.4f}'.format).to_string()}\n\n"
            f"{len(self.before.series)} series; calibration error: expected one, {N_BINS} bins of equal count\n"
            "by chance: what perfect probabilities as high as these would show"
        )


def calibrate(evaluation: Evaluation) -> Calibrated:
    """Scales the predictions of stage 2 by the temperatures of their folds; ValueError as out_of_fold_temperatures."""
    fold = evaluation.series.fold.to_numpy()
    temperatures = out_of_fold_temperatures(evaluation.truth, evaluation.stage2, fold)
    own = np.array([temperatures[k] for k in fold])
    after = replace(evaluation, stage2=at_temperature(evaluation.stage2, own[:, None]))
    return Calibrated(evaluation, after, temperatures, fit_temperature(evaluation.truth, evaluation.stage2))


def out_of_fold_temperatures(truth: np.ndarray, predicted: np.ndarray, fold: np.ndarray) -> dict[int, float]:
    """Fold -> temperature fitted on the other folds; truth, predicted (series, 14), fold (series,).

    Raises ValueError if there is only one fold.
    """
    folds = [int(k) for k in np.unique(fold)]
    if len(folds) < 2:
        raise ValueError(
            f"expected held-out answers of two folds or more to fit temperatures, found fold {folds[0]} alone"
        )
    return {k: fit_temperature(truth[fold != k], predicted[fold != k]) for k in folds}


def fit_temperature(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The temperature with the lowest log loss over all entries, between COLDEST and HOTTEST; 1 if none is better.

    truth (0 or 1) and predicted (probabilities) have the same shape.
    """
    odds = log_odds(predicted)

    def loss(log_temperature: float) -> float:
        scaled = odds / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - truth * scaled))

    best = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(best.x)) if best.fun < loss(0.0) else 1.0


def errors_table(truth: np.ndarray, predictions: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Log loss, Brier score, expected calibration error and its value by chance, per group and prediction.

    truth and each of `predictions`, by name: (series, 14). Groups: GROUPS.
    """
    rows = {}
    for group, columns in GROUPS.items():
        found = truth[:, columns].ravel()
        for name, predicted in predictions.items():
            probability = predicted[:, columns].ravel()
            bins = reliability(found, probability)
            rows[group, name] = {
                "log loss": log_loss(found, np.clip(probability, NEVER, ALWAYS), labels=[0, 1]),
                "Brier score": brier_score_loss(found, probability, pos_label=1),
                "calibration error": calibration_error(bins),
                "by chance": chance_error(bins),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def calibration_error(bins: pd.DataFrame) -> float:
    """Expected calibration error in [0, 1] of the bins of `reliability`: mean over cases of the difference between a
    bin's mean probability and its fraction of positives (Naeini et al. 2015, with bins of equal count)."""
    return float((bins.n * (bins.predicted - bins.found).abs()).sum() / bins.n.sum())


def chance_error(bins: pd.DataFrame) -> float:
    """Approximate expected calibration error of perfectly calibrated probabilities: the fraction of positives among
    n cases deviates from p by sqrt(2 / pi) sqrt(p (1 - p) / n) on average (mean absolute normal deviate)."""
    deviation = np.sqrt(bins.predicted * (1 - bins.predicted) / bins.n)
    return float(np.sqrt(2 / np.pi) * (bins.n * deviation).sum() / bins.n.sum())


def reliability(truth: np.ndarray, predicted: np.ndarray, n_bins: int = N_BINS) -> pd.DataFrame:
    """One row per bin of nearly equal count, by increasing probability: n, predicted (mean probability) and found
    (fraction of positives). Equal probabilities share a bin, so there may be fewer. truth, predicted (cases,)."""
    found, probability = calibration_curve(truth, predicted, n_bins=n_bins, strategy="quantile")
    limits = np.percentile(predicted, np.linspace(0, 1, n_bins + 1) * 100)[1:-1]  # those of calibration_curve
    n = np.bincount(np.searchsorted(limits, predicted))
    return pd.DataFrame({"n": n[n > 0], "predicted": probability, "found": found})
