"""Folds that keep a patient together and give each the same share of every label, modality and sex."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from aneurysm.labels import LOCATIONS, PRESENT

TRIES = 12  # stratifications of different seeds, of which the most even is taken
ALLOWED_COUNT, ALLOWED_SHARE = 2, 0.2  # two folds may differ by this many, or this share of their mean


def assign_folds(series: pd.DataFrame, n_folds: int, seed: int) -> pd.Series:
    """(series,) fold of each row, 0 to n_folds - 1; rows with the same `patient_id` share one.

    `series` has SeriesInstanceUID, the 13 locations, Aneurysm Present, and, where known, patient_id, Modality and
    PatientSex. Iterative stratification (Sechidis et al. 2011) of patients, repeated with other seeds; the most even
    result is taken. Raises ValueError where there are fewer patients than folds.
    """
    patient = patients(series)
    table = strata(series).groupby(patient.to_numpy()).max()
    if len(table) < n_folds:
        raise ValueError(f"expected at least {n_folds} patients for {n_folds} folds, found {len(table)}")
    best, best_score = None, None
    for attempt in range(TRIES):
        fold = pd.Series(_stratify(table.to_numpy(), n_folds, seed + attempt), index=table.index)
        assigned = pd.Series(fold[patient.to_numpy()].to_numpy(), index=series.index, name="fold")
        score = unevenness(series, assigned, n_folds)
        if best_score is None or score < best_score:
            best, best_score = assigned, score
    return best


def patients(series: pd.DataFrame) -> pd.Series:
    """(series,) who each row belongs to: its patient_id where that is known, else the series itself."""
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
    """One row per column of `strata` and one for all series: the count in each fold, and whether they are even."""
    counts = strata(series).assign(series=1).groupby(fold.to_numpy()).sum().reindex(range(n_folds), fill_value=0).T
    spread = counts.max(axis=1) - counts.min(axis=1)
    return counts.assign(even=spread <= np.maximum(ALLOWED_COUNT, ALLOWED_SHARE * counts.mean(axis=1)))


def unevenness(series: pd.DataFrame, fold: pd.Series, n_folds: int) -> tuple[float, ...]:
    """Smaller is better: labels that a fold lacks although there are enough, rows that are not even, largest spread."""
    table = fold_counts(series, fold, n_folds)
    counts = table.drop(columns="even")
    lacking = ((counts.min(axis=1) == 0) & (counts.sum(axis=1) >= n_folds)).sum()
    spread = ((counts.max(axis=1) - counts.min(axis=1)) / counts.mean(axis=1).clip(lower=10)).max()
    return int(lacking), int((~table.even).sum()), float(spread)


def _stratify(table: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """(patients,) fold of each row of a table of 0 and 1."""
    fold = np.empty(len(table), int)
    splitter = MultilabelStratifiedKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rare labels: said by the table of counts instead
        for number, (_, held_out) in enumerate(splitter.split(table, table)):
            fold[held_out] = number
    return fold
