"""Whether a probability is met by as many aneurysms as it says, and the temperature for it (Guo et al. 2017)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from aneurysm.labels import LOCATIONS, PRESENT
from aneurysm.paths import ModelPaths, atomic_write
from aneurysm.training.checkpoint import file_hash

NEVER, ALWAYS = 1e-7, 1 - 1e-7  # probabilities nearer to 0 or 1 count as these


@dataclass(frozen=True)
class Temperature:
    """What log-odds are divided by, 1 where they stay as they are, and why in words."""

    value: float
    text: str


def log_odds(predicted: np.ndarray) -> np.ndarray:
    """Of probabilities, finite for 0 and 1, too."""
    clipped = np.clip(np.asarray(predicted, float), NEVER, ALWAYS)
    return np.log(clipped) - np.log1p(-clipped)


def at_temperature(predicted: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Probabilities whose log-odds are those of `predicted` divided by the temperature."""
    return 1 / (1 + np.exp(-log_odds(predicted) / temperature))


def write_temperature(model_paths: ModelPaths, folds: Sequence[int], value: float) -> None:
    """Keeps the temperature that was fitted to the answers of these folds' models."""
    kept = {"temperature": value, "checkpoints": {str(fold): _hashes(model_paths, fold) for fold in folds}}
    with atomic_write(model_paths.temperature_json) as beside:
        beside.write_text(json.dumps(kept, indent=1))


def read_temperature(model_paths: ModelPaths, folds: Sequence[int | None]) -> Temperature:
    """The temperature kept for the models of these folds; 1 where there is none or it was fitted to other models.

    Raises ValueError naming the file where it is damaged.
    """
    path = model_paths.temperature_json
    if not path.exists():
        return Temperature(1.0, "not calibrated; eval_stage2.py --temperature fits a temperature")
    try:
        kept = json.loads(path.read_text())
        value, known = float(kept["temperature"]), dict(kept["checkpoints"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected what eval_stage2.py --temperature writes; {error}") from error
    others = [str(fold) for fold in folds if known.get(str(fold)) != _hashes(model_paths, fold)]
    if others:
        names = ", ".join(f"fold-{'none' if fold == 'None' else fold}" for fold in others)
        return Temperature(1.0, f"not calibrated: {path.name} was fitted to other models than {names}")
    return Temperature(value, f"calibrated at temperature {value:.3f}")


def _hashes(model_paths: ModelPaths, fold: int | None) -> list[str]:
    """Of stage 1 and stage 2."""
    return [file_hash(path) for path in (model_paths.stage1(fold), model_paths.stage2(fold) / "last.pth")
            if path.exists()]  # fmt: skip


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
    def answers(self) -> dict[str, np.ndarray]:
        """(series, 14) probabilities before and after."""
        return {"before": self.before.stage2, "after": self.after.stage2}

    def text(self, name: str) -> str:
        """The temperatures, and the errors before and after; `name` is the encoder's."""
        table = errors_table(self.before.truth, self.answers)
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


def errors_table(truth: np.ndarray, answers: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Log loss, Brier score, expected calibration error and what of it is chance, of each of GROUPS and each answer.

    truth and each of `answers`, by name: (series, 14).
    """
    rows = {}
    for group, columns in GROUPS.items():
        found = truth[:, columns].ravel()
        for name, predicted in answers.items():
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
