"""Stratified folds by patient: each fold gets the same share of every label, modality and sex."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from aneurysm.labels import LOCATIONS, PRESENT

TRIES = 12  # stratifications with different seeds; the most even one is used
ALLOWED_COUNT, ALLOWED_SHARE = 2, 0.2  # two folds may differ by this many, or this share of their mean


def assign_folds(series: pd.DataFrame, n_folds: int, seed: int) -> pd.Series:
    """(series,) fold of each row, 0 to n_folds - 1; rows with the same `patient_id` get the same fold.

    `series` has SeriesInstanceUID, the 13 locations, Aneurysm Present, and optionally patient_id, Modality and
    PatientSex. Iterative stratification (Sechidis et al. 2011) of patients, repeated with other seeds; the most even
    result is returned. Raises ValueError if there are fewer patients than folds.
    """
    n_patients = patients(series).nunique()
    if n_patients < n_folds:
        raise ValueError(f"expected at least {n_folds} patients for {n_folds} folds, found {n_patients}")
    stratify = partial(_stratify, n_folds=n_folds)
    return _most_even(series, stratify, partial(unevenness, n_folds=n_folds), seed)


def assign_parts(series: pd.DataFrame, shares: Sequence[float], seed: int) -> pd.Series:
    """(series,) part of each row, 0 to len(shares) - 1; as assign_folds, but part i gets the share shares[i].

    `shares` sum to 1.
    """
    shares = np.array(shares, float)
    return _most_even(series, partial(_stratify_parts, shares=shares), partial(_distance, shares=shares), seed)


def _most_even(series: pd.DataFrame, stratify: Callable, score: Callable, seed: int) -> pd.Series:
    """(series,) the stratification of the patients with the lowest `score`, over TRIES seeds."""
    patient = patients(series)
    table = strata(series).groupby(patient.to_numpy()).max()
    best, best_score = None, None
    for attempt in range(TRIES):
        fold = pd.Series(stratify(table.to_numpy(), seed=seed + attempt), index=table.index)
        assigned = pd.Series(fold[patient.to_numpy()].to_numpy(), index=series.index, name="fold")
        attempt_score = score(series, assigned)
        if best_score is None or attempt_score < best_score:
            best, best_score = assigned, attempt_score
    return best


def patients(series: pd.DataFrame) -> pd.Series:
    """(series,) the patient of each row: "patient " + patient_id if known, else the SeriesInstanceUID."""
    if "patient_id" not in series:
        return series.SeriesInstanceUID
    known = series.patient_id.notna() & (series.patient_id.astype(str).str.strip() != "")
    return ("patient " + series.patient_id.astype(str)).where(known, series.SeriesInstanceUID)


def strata(series: pd.DataFrame) -> pd.DataFrame:
    """(series, columns) 0 or 1: the 13 locations, Aneurysm Present, each modality and each sex."""
    columns = series[[*LOCATIONS, PRESENT]].astype(int)
    for name in ("Modality", "PatientSex"):
        if name in series:
            columns = columns.join(pd.get_dummies(series[name], prefix=name).astype(int))
    return columns


def fold_counts(series: pd.DataFrame, fold: pd.Series, n_folds: int) -> pd.DataFrame:
    """One row per column of `strata` and one for all series: the count in each fold, and whether they are `even`."""
    counts = strata(series).assign(series=1).groupby(fold.to_numpy()).sum().reindex(range(n_folds), fill_value=0).T
    spread = counts.max(axis=1) - counts.min(axis=1)
    return counts.assign(even=spread <= np.maximum(ALLOWED_COUNT, ALLOWED_SHARE * counts.mean(axis=1)))


def unevenness(series: pd.DataFrame, fold: pd.Series, n_folds: int) -> tuple[float, ...]:
    """Smaller is better: labels with enough cases that some fold lacks, rows that are not even, largest spread."""
    table = fold_counts(series, fold, n_folds)
    counts = table.drop(columns="even")
    lacking = ((counts.min(axis=1) == 0) & (counts.sum(axis=1) >= n_folds)).sum()
    spread = ((counts.max(axis=1) - counts.min(axis=1)) / counts.mean(axis=1).clip(lower=10)).max()
    return int(lacking), int((~table.even).sum()), float(spread)


def _stratify(table: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """(patients,) fold of each row of a table of 0 and 1."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold  # here: it imports scikit-learn

    fold = np.empty(len(table), int)
    splitter = MultilabelStratifiedKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rare labels: the table of counts shows them
        for number, (_, held_out) in enumerate(splitter.split(table, table)):
            fold[held_out] = number
    return fold


def _stratify_parts(table: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """(patients,) part of each row of a table of 0 and 1, for parts of different sizes."""
    from iterstrat.ml_stratifiers import IterativeStratification

    rng = np.random.RandomState(seed)  # the library requires this class
    order = rng.permutation(len(table))
    part = np.empty(len(table), int)
    part[order] = IterativeStratification(labels=table[order].astype(bool), r=shares, random_state=rng)
    return part


def _distance(series: pd.DataFrame, part: pd.Series, shares: np.ndarray) -> tuple[int, float]:
    """Smaller is better: labels that a part lacks although at least one is due, largest relative deviation."""
    table = strata(series).assign(series=1)
    counts = table.groupby(part.to_numpy()).sum().reindex(range(len(shares)), fill_value=0).T.to_numpy()
    due = table.sum().to_numpy()[:, None] * shares
    lacking = (counts == 0) & (due >= 1)
    return int(lacking.sum()), float((np.abs(counts - due) / due.clip(min=5)).max())
