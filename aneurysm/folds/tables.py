"""Reads the tables for training: labels with the cache's columns, folds, spots; and parses `--fold`."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from aneurysm.cache.tables import series_to_do
from aneurysm.folds.spots import COLUMNS as SPOT_COLUMNS
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.paths import DataPaths
from aneurysm.tables import FROM_COMPETITION, FROM_PREPROCESSING, read_table, require

FEWEST_TO_TELL = 10  # series; with fewer, most may well belong to one patient


def labelled_series(paths: DataPaths) -> pd.DataFrame:
    """train.csv with the columns of train_meta.csv, which are empty for a series that is not in the cache.

    A patient_id that more than half of the series share, as some anonymisers write it, counts as unknown, with a
    warning. Raises ValueError naming the file if it is missing or damaged, and also line and column if a label of
    train.csv is not 0 or 1.
    """
    train = read_table(paths.train_csv, ["SeriesInstanceUID", *LABELS], FROM_COMPETITION)
    series_to_do(paths)  # checks the UIDs
    for label in LABELS:
        numbers = pd.to_numeric(train[label], errors="coerce")
        require(paths.train_csv, train[label], numbers.isin([0, 1]), "0 or 1, found")
        train[label] = numbers.astype(int)
    contradicting = (train[list(LOCATIONS)].max(axis=1) > train[PRESENT]).sum()
    if contradicting:
        warnings.warn(f"{paths.train_csv}: {contradicting} rows have a location and 0 as {PRESENT}", stacklevel=2)
    columns = ["SeriesInstanceUID", "series_type", "plane", "n_slices"]
    meta = _with_known_patients(read_table(paths.train_meta_csv, columns, FROM_PREPROCESSING), paths.train_meta_csv)
    return train.merge(meta, on="SeriesInstanceUID", how="left", validate="one_to_one")


def _with_known_patients(meta: pd.DataFrame, path: Path) -> pd.DataFrame:
    if "patient_id" not in meta or len(meta) < FEWEST_TO_TELL:
        return meta
    counts = meta.patient_id.value_counts()
    if not len(counts) or 2 * counts.iloc[0] <= len(meta):
        return meta
    count, value = counts.iloc[0], counts.index[0]
    text = f"{path}, column patient_id: {count} of {len(meta)} series have {value!r}: taken as not known"
    warnings.warn(text, stacklevel=3)
    return meta.assign(patient_id=meta.patient_id.where(meta.patient_id != value))


def read_folds(cache_dir: Path, folds: int) -> pd.DataFrame:
    """train_{folds}_folds.csv, one row per series; ValueError naming the file if it is missing or damaged."""
    columns = ["SeriesInstanceUID", "fold", "n_slices", "series_type", "plane", *LABELS]
    return read_table(cache_dir / f"train_{folds}_folds.csv", columns, _made_by(folds))


def read_spots(cache_dir: Path, folds: int) -> pd.DataFrame:
    """train_stage1_{folds}_folds.csv, one row per spot; ValueError as read_folds."""
    return read_table(cache_dir / f"train_stage1_{folds}_folds.csv", SPOT_COLUMNS, _made_by(folds))


def read_unplaced(cache_dir: Path, folds: int) -> pd.DataFrame:
    """localizer_errors.csv, one row per unplaced localizer; ValueError as read_folds."""
    return read_table(DataPaths(cache_dir).localizer_errors_csv, ["SeriesInstanceUID"], _made_by(folds))


def chosen_folds(fold: str, folds: int, none: bool = False) -> list[int | None]:
    """The folds that `--fold` names: a number, `all`, or, if `none` is True, `none` ([None]: nothing is held out).

    Raises ValueError for anything else.
    """
    if fold == "all":
        return list(range(folds))
    if fold == "none":
        if none:
            return [None]
        raise ValueError(
            "fold none: expected a fold to evaluate on; models of all series have seen every one of these: "
            "eval_end_to_end.py --fold none --export packs them, and predict.py runs them on other series"
        )
    if not fold.isdigit() or int(fold) >= folds:
        raise ValueError(f"fold {fold}: expected a number below {folds}, or all{', or none' if none else ''}")
    return [int(fold)]


def _made_by(folds: int) -> str:
    return f"has create_folds.py run with --folds {folds}?"
