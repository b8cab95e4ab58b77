"""Whether a probability is met by as many aneurysms as it says, before and after temperature scaling (Guo et al. 2017).

A series' log-odds are divided by a temperature that was fitted without any answer about its fold. (The models that gave
the answers about the other folds were trained on it, as always where folds are taken in turn.)
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
COLDEST, HOTTEST = 0.05, 20.0  # temperatures are sought between these
GROUPS = {PRESENT: slice(-1, None), f"{len(LOCATIONS)} locations": slice(None, -1)}  # columns of tables of 14


@dataclass(frozen=True)
class Calibrated:
    """One encoder's answers, and the same at the temperatures of their folds."""

    before: Evaluation
    after: Evaluation
    temperatures: dict[int, float]  # fold -> temperature, fitted on the other folds
    overall: float  # fitted on all folds: for series that none of the models has seen

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """(series, 14) probabilities before and after."""
        return {"before": self.before.stage2, "after": self.after.stage2}

    def text(self, name: str) -> str:
        """The temperatures, and the errors before and after; `name` is the encoder's."""
        table = errors_table(self.before.truth, self.predictions)
        temperatures = ", ".join(f"{value:.3f} in fold {fold}" for fold, value in self.temperatures.items())
        return (
            f"Temperature scaling of stage 2 of {name}: log-odds / temperature, fitted on the other folds' answers\n"
            f"{temperatures}; above 1 the answers were too sure\n"
            f"{self.overall:.3f} over all folds, which eval_end_to_end.py --export takes along\n"
            "Within a fold the order of the series and so each AUC stays the same; over all folds it may change\n\n"
            f"{table.map('{:.4f}'.format).to_string()}\n\n"
            f"{len(self.before.series)} series; calibration error: expected one, {N_BINS} bins of equal count\n"
            "by chance: what perfect probabilities as high as these would show"
        )


def calibrate(evaluation: Evaluation) -> Calibrated:
    """The answers of stage 2 at their folds' temperatures; ValueError as out_of_fold_temperatures."""
    fold = evaluation.series.fold.to_numpy()
    temperatures = out_of_fold_temperatures(evaluation.truth, evaluation.stage2, fold)
    own = np.array([temperatures[k] for k in fold])
    after = replace(evaluation, stage2=at_temperature(evaluation.stage2, own[:, None]))
    return Calibrated(evaluation, after, temperatures, fit_temperature(evaluation.truth, evaluation.stage2))


def out_of_fold_temperatures(truth: np.ndarray, predicted: np.ndarray, fold: np.ndarray) -> dict[int, float]:
    """Each fold's temperature, fitted on the other folds; truth, predicted (series, 14), fold (series,).

    Raises ValueError where there is one fold only.
    """
    folds = [int(k) for k in np.unique(fold)]
    if len(folds) < 2:
        raise ValueError(
            f"expected held-out answers of two folds or more to fit temperatures, found fold {folds[0]} alone"
        )
    return {k: fit_temperature(truth[fold != k], predicted[fold != k]) for k in folds}


def fit_temperature(truth: np.ndarray, predicted: np.ndarray) -> float:
    """What to divide the log-odds of `predicted` by for the least log loss over all entries; 1 where nothing is better.

    truth, predicted of one shape, 0 or 1 and probabilities; the temperature lies between COLDEST and HOTTEST.
    """
    odds = log_odds(predicted)

    def loss(log_temperature: float) -> float:
        scaled = odds / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - truth * scaled))

    best = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(best.x)) if best.fun < loss(0.0) else 1.0


def errors_table(truth: np.ndarray, predictions: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Log loss, Brier score, expected calibration error and what of it is chance, of each of GROUPS and each answer.

    truth and each of `answers`, by name: (series, 14).
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
    """Expected calibration error in [0, 1] of the bins of `reliability`: how far the mean probability of a bin is from
    its share of positives, the mean over cases (Naeini et al. 2015, with bins of equal count)."""
    return float((bins.n * (bins.predicted - bins.found).abs()).sum() / bins.n.sum())


def chance_error(bins: pd.DataFrame) -> float:
    """About the expected calibration error that probabilities would show were they right: the share of positives among
    n cases misses p by sqrt(2 / pi) standard deviations of sqrt(p (1 - p) / n), the mean of a normal's distance."""
    deviation = np.sqrt(bins.predicted * (1 - bins.predicted) / bins.n)
    return float(np.sqrt(2 / np.pi) * (bins.n * deviation).sum() / bins.n.sum())


def reliability(truth: np.ndarray, predicted: np.ndarray, n_bins: int = N_BINS) -> pd.DataFrame:
    """One row a bin of nearly equal count, from the lowest probability up: n, said (mean probability) and found (share
    of positives). Equal probabilities share a bin, so there may be fewer. truth, predicted (cases,)."""
    found, probability = calibration_curve(truth, predicted, n_bins=n_bins, strategy="quantile")
    limits = np.percentile(predicted, np.linspace(0, 1, n_bins + 1) * 100)[1:-1]  # those of calibration_curve
    n = np.bincount(np.searchsorted(limits, predicted))
    return pd.DataFrame({"n": n[n > 0], "predicted": probability, "found": found})
