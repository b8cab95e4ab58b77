"""The competition's score: half the AUC of Aneurysm Present, half the mean AUC of the 13 locations.

A label without a positive or without a negative has no AUC: it is NaN, left out of the mean, and reported by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aneurysm.labels import LABELS, PRESENT

QUANTILES = (0.025, 0.975)
CHUNK = 16  # bootstrap samples at a time


def label_aucs(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(14,) area under the ROC curve of each label; NaN for a label without a positive or without a negative.

    truth (series, 14) 0 or 1, predicted (series, 14) any finite scores, both in the order of LABELS.
    Raises ValueError for another shape, or naming a label whose truth is not 0 or 1 or whose score is not finite.
    """
    from sklearn.metrics import roc_auc_score  # here: the import takes half a second

    _check(truth, predicted)
    decidable = _decidable(truth)
    columns = zip(truth.T, predicted.T, decidable, strict=True)
    return np.array([roc_auc_score(y, p) if ok else np.nan for y, p, ok in columns])


def weighted_score(aucs: np.ndarray) -> float:
    """Half the AUC of Aneurysm Present plus half the mean of the known AUCs of the locations; NaN if either is missing.

    aucs (..., 14) in the order of LABELS; returns an array of shape (...).
    """
    others, present = aucs[..., :-1], aucs[..., -1]
    known = np.isfinite(others)
    n_known = known.sum(axis=-1)
    mean = np.where(known, others, 0).sum(axis=-1) / np.where(n_known, n_known, np.nan)
    return 0.5 * present + 0.5 * mean


def history_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The scores of an epoch in history.csv: the competition's score and the AUC of Aneurysm Present."""
    aucs = label_aucs(truth, predicted)
    return {"score": float(weighted_score(aucs)), "auc_present": float(aucs[-1])}


def bootstrap_aucs(
    truth: np.ndarray, predicted: np.ndarray, n_samples: int = 1000, seed: int = 0, groups: Sequence | None = None
) -> np.ndarray:
    """(n_samples, 14) AUCs of rows drawn with replacement; NaN where a sample lacks a positive or a negative.

    Rows that depend on each other, such as windows of one series, share a value in `groups` (rows,) and are drawn
    together; otherwise the interval would be too narrow (cluster bootstrap: Field and Welsh 2007). Without `groups`,
    each row is drawn alone. Raises ValueError if `groups` has another length or an empty value.
    """
    _check(truth, predicted)
    group = _group_numbers(groups, len(truth))
    n_groups = group.max() + 1
    rankings = [_ranking(*columns) for columns in zip(truth.T, predicted.T, strict=True)]
    rng = np.random.default_rng(seed)
    chunks = []
    for start in range(0, n_samples, CHUNK):
        n = min(CHUNK, n_samples - start)
        drawn = rng.integers(0, n_groups, (n, n_groups))
        times = np.stack([np.bincount(row, minlength=n_groups) for row in drawn]).take(group, axis=1)
        chunks.append(np.stack([_weighted_aucs(ranking, times) for ranking in rankings], axis=1))
    return np.concatenate(chunks)


def score_table(
    truth: np.ndarray, predicted: np.ndarray, n_samples: int = 1000, seed: int = 0, groups: Sequence | None = None
) -> pd.DataFrame:
    """One row per label and, last, one for the weighted score: n, positives, auc and its 95 % bootstrap interval.

    `n` and `positives` count rows of `truth`; `groups` as in bootstrap_aucs. A label without an AUC is NaN (see
    `left_out`).
    """
    aucs = label_aucs(truth, predicted)
    samples = bootstrap_aucs(truth, predicted, n_samples, seed, groups)
    aucs = np.append(aucs, weighted_score(aucs))
    samples = np.column_stack([samples, weighted_score(samples)])
    enough = np.isfinite(samples).sum(axis=0) > 0
    low, high = (np.where(enough, np.nanquantile(np.where(enough, samples, 0), q, axis=0), np.nan) for q in QUANTILES)
    positives = np.append(truth.sum(axis=0), truth[:, LABELS.index(PRESENT)].sum()).astype(int)
    return pd.DataFrame(
        {"n": len(truth), "positives": positives, "auc": aucs, "low": low, "high": high},
        index=pd.Index([*LABELS, "Weighted score"], name="label"),
    )


def left_out(truth: np.ndarray) -> list[str]:
    """Labels without an AUC: they lack a positive or a negative."""
    return [label for label, ok in zip(LABELS, _decidable(truth), strict=True) if not ok]


def _group_numbers(groups: Sequence | None, n_rows: int) -> np.ndarray:
    """(rows,) number of each row's group, from 0; without `groups`, each row is a group."""
    if groups is None:
        return np.arange(n_rows)
    numbers, _ = pd.factorize(pd.Series(groups))
    if len(numbers) != n_rows or numbers.min() < 0:
        raise ValueError(f"expected a group for each of {n_rows} rows, found {(numbers >= 0).sum()}")
    return numbers


def _decidable(truth: np.ndarray) -> np.ndarray:
    return (truth.min(axis=0) == 0) & (truth.max(axis=0) == 1)


def _check(truth: np.ndarray, predicted: np.ndarray) -> None:
    expected = (len(truth), len(LABELS))
    if truth.shape != expected or predicted.shape != expected or len(truth) == 0:
        raise ValueError(f"expected two tables of (series, {len(LABELS)}), found {truth.shape} and {predicted.shape}")
    neither = ~np.isin(truth, (0, 1)).all(axis=0)
    if neither.any():
        raise ValueError(f"expected 0 or 1 as truth, found other values for {LABELS[int(np.argmax(neither))]}")
    bad = ~np.isfinite(predicted).all(axis=0)
    if bad.any():
        raise ValueError(f"expected finite predictions, found NaN or infinity for {LABELS[int(np.argmax(bad))]}")


def _ranking(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows of the positives; rows of the negatives, sorted by increasing score; and for each positive, how many
    negatives score lower and how many score lower or equal."""
    positives, negatives = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    negatives = negatives[np.argsort(predicted[negatives])]
    below, not_above = (np.searchsorted(predicted[negatives], predicted[positives], side) for side in ("left", "right"))
    return positives, negatives, below, not_above


def _weighted_aucs(ranking: tuple[np.ndarray, ...], times: np.ndarray) -> np.ndarray:
    """(samples,) probability that a positive scores above a negative, ties count half; row i has weight
    times[sample, i]."""
    positives, negatives, below, not_above = ranking
    up_to = np.zeros((len(times), len(negatives) + 1), int)  # [:, k]: how often the k lowest negatives were drawn
    np.cumsum(times.take(negatives, axis=1), axis=1, out=up_to[:, 1:])
    positive = times.take(positives, axis=1)
    won = (positive * (up_to.take(below, axis=1) + up_to.take(not_above, axis=1))).sum(axis=1) / 2
    pairs = positive.sum(axis=1) * up_to[:, -1]
    return np.divide(won, pairs, out=np.full(len(times), np.nan), where=pairs > 0)
