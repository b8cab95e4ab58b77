"""Platt scaling of a bundle's log-odds: times a scale plus a shift, fitted on series that no model has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.labels import LABELS
from aneurysm.stage2.temperature import log_odds

PRESENT = len(LABELS) - 1  # column of Aneurysm Present; the locations come before it


@dataclass(frozen=True)
class Platt:
    """Scale and shift of Aneurysm Present, and one scale and shift for all 13 locations (Platt 1999).

    n_series  number of series that it was fitted on
    """

    present: tuple[float, float]
    locations: tuple[float, float]
    n_series: int

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        """(..., 14) calibrated probabilities; the ranking within a label does not change."""
        scale, shift = (
            np.array([own] * PRESENT + [last]) for own, last in zip(self.locations, self.present, strict=True)
        )
        return 1 / (1 + np.exp(-(scale * log_odds(predicted) + shift)))


def fit_platt(truth: np.ndarray, predicted: np.ndarray) -> Platt:
    """Minimizes the log loss against Platt's targets instead of 0 and 1; truth, predicted (series, 14).

    Raises ValueError if a group has only positives or only negatives, or if the fitted scale is not positive.
    """
    odds = log_odds(predicted)
    both = [_fit(truth[:, own].ravel(), odds[:, own].ravel()) for own in (slice(PRESENT, None), slice(PRESENT))]
    return Platt(*both, len(truth))


def _fit(truth: np.ndarray, odds: np.ndarray) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression  # not needed for inference

    n_positive, n_negative = int(truth.sum()), int((1 - truth).sum())
    if not n_positive or not n_negative:
        raise ValueError(f"expected series with and without an aneurysm to calibrate on, found {n_positive} with")
    target = np.where(truth == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    rows, labels = np.tile(odds[:, None], (2, 1)), np.repeat([1, 0], len(odds))
    model = LogisticRegression(C=np.inf).fit(rows, labels, np.concatenate([target, 1 - target]))
    scale, shift = float(model.coef_[0, 0]), float(model.intercept_[0])
    if scale <= 0:
        raise ValueError(f"expected probabilities that rise with the share of aneurysms, found a slope of {scale:.3f}")
    return scale, shift
