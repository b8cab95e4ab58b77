"""Averages both systems' predictions, with weights chosen without the series that they are evaluated on.

The average is over log-odds, not ranks: a rank depends on other series, and in use series come one at a time. The
systems weight positives differently in their losses. On the log-odds scale this shifts all predictions of a label by
the same amount, which does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from aneurysm.folds.oof import predictions_in_folds
from aneurysm.labels import LABELS
from aneurysm.metrics import label_aucs, weighted_score
from aneurysm.scores import compared_text, score_text, series_subgroups

WEIGHTS = np.linspace(0, 1, 11)  # candidate weights of the second system
NEVER, ALWAYS = 1e-6, 1 - 1e-6  # probabilities are clipped to this range


@dataclass(frozen=True)
class Blend:
    """Out-of-fold predictions of both systems and their average; rows are series that both have predicted."""

    first: np.ndarray  # (series, 14) probabilities of the first system
    second: np.ndarray  # (series, 14) probabilities of the second system
    blended: np.ndarray  # (series, 14) probabilities of the average, with the weight of each series' fold
    truth: np.ndarray  # (series, 14) 0 or 1
    subgroups: pd.DataFrame  # modality and plane of each series
    weights: dict[int, float]  # fold -> weight of the second system, chosen on the other folds
    weight: float  # chosen on all folds, for new series
    n_alone: int  # series that only one of the systems has predicted

    def text(self, name: str) -> str:
        """The weights, the scores of the blend, and a comparison with both systems; `name` is the first system's."""
        weights = ", ".join(f"{weight:.2f} in fold {fold}" for fold, weight in self.weights.items())
        predictions = {"blend": self.blended, "volume3d": self.second, name: self.first}
        return "\n\n".join(
            [
                f"Weight of volume3d, chosen on the other folds: {weights}; on all, for new series: {self.weight:.2f}\n"
                f"{len(self.truth)} series, {self.n_alone} more that only one system has answered left out",
                f"blend\n{score_text(self.truth, self.blended, self.subgroups)}",
                compared_text(self.truth, predictions),
            ]
        )


def blend_of(series: pd.DataFrame, first: Path, second: Path) -> Blend:
    """The blend of two systems' out-of-fold predictions (oof_*.csv) for `series`, rows of train_{F}_folds.csv.

    Raises ValueError naming the file if it is missing or its folds differ from those of `series`, or if fewer than two
    folds have been predicted by both systems.
    """
    one, other = (predictions_in_folds(path, series) for path in (first, second))
    both = series.SeriesInstanceUID.isin(one.index.intersection(other.index))
    series, n_alone = series[both].reset_index(drop=True), len(one.index.symmetric_difference(other.index))
    fold = series.fold.to_numpy()
    if len(np.unique(fold)) < 2:
        raise ValueError(f"{first}, {second}: expected two folds that both have answered, found {len(np.unique(fold))}")
    one, other = (table.loc[series.SeriesInstanceUID, list(LABELS)].to_numpy(float) for table in (one, other))
    truth = series[list(LABELS)].to_numpy(int)
    weights = {int(k): best_weight(truth[fold != k], one[fold != k], other[fold != k]) for k in np.unique(fold)}
    blended = np.empty(one.shape)
    for k, weight in weights.items():
        blended[fold == k] = average(one[fold == k], other[fold == k], weight)
    return Blend(one, other, blended, truth, series_subgroups(series), weights, best_weight(truth, one, other), n_alone)


def average(one: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """(series, 14) probabilities of the average log-odds, with `weight` for `other` and 1 - `weight` for `one`."""
    one, other = (logit(np.clip(table, NEVER, ALWAYS)) for table in (one, other))
    return expit((1 - weight) * one + weight * other)


def best_weight(truth: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """The weight of `other` with the highest weighted score.

    Of equal scores, and if there is no score, the weight nearest to 0.5.
    """
    scores = [float(weighted_score(label_aucs(truth, average(one, other, weight)))) for weight in WEIGHTS]
    known = np.nan_to_num(scores, nan=-1.0).round(9)
    best = WEIGHTS[known == known.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])
