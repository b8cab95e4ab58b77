"""Both systems' answers averaged, with a weight that is chosen without the series that the average is evaluated on.

Averaged are log-odds of probabilities, not ranks: a rank needs other series to stand among, and in use one series comes
at a time. On the log-odds scale it does not matter that the systems count positives differently in their losses, which
shifts all of a label's answers alike.
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

WEIGHTS = np.linspace(0, 1, 11)  # of the second system
NEVER, ALWAYS = 1e-6, 1 - 1e-6  # probabilities nearer to 0 or 1 count as these


@dataclass(frozen=True)
class Blend:
    """Out of fold; rows are series that both systems have answered."""

    first: np.ndarray  # (series, 14) probabilities of the first system
    second: np.ndarray  # (series, 14) of the second
    blended: np.ndarray  # (series, 14), with the weight of each series' fold
    truth: np.ndarray  # (series, 14) 0 or 1
    subgroups: pd.DataFrame  # modality and plane of each series
    weights: dict[int, float]  # fold -> weight of the second system, chosen on the other folds
    weight: float  # chosen on all of them: the one to use on new series
    n_alone: int  # series that only one of the systems has answered

    def text(self, name: str) -> str:
        """The weights, the blend's table, and it and both systems side by side; `name` is the first system's."""
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
    """Two systems' out-of-fold answers, oof_*.csv, about `series`, rows of train_{F}_folds.csv.

    Raises ValueError naming the file where it is missing, where a system had other folds than `series`, or where no
    two folds have been answered by both.
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
    """(series, 14) probabilities: those whose log-odds are `weight` times the other's and the rest the one's."""
    one, other = (logit(np.clip(table, NEVER, ALWAYS)) for table in (one, other))
    return expit((1 - weight) * one + weight * other)


def best_weight(truth: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """The weight of the other with the best weighted score; of equal ones that nearest to one half, which it is, too,
    where there is no score."""
    scores = [float(weighted_score(label_aucs(truth, average(one, other, weight)))) for weight in WEIGHTS]
    known = np.nan_to_num(scores, nan=-1.0).round(9)
    best = WEIGHTS[known == known.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])
