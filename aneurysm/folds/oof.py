"""Out-of-fold predictions (oof_*.csv): reading them with a fold check, and writing without losing other folds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from aneurysm.labels import LABELS
from aneurysm.tables import read_table, write_csv


def read_predictions(path: Path) -> pd.DataFrame:
    """A table of an eval script: SeriesInstanceUID, fold and 14 probabilities; ValueError as read_folds."""
    return read_table(path, ["SeriesInstanceUID", "fold", *LABELS], "has its eval script run?")


def predictions_in_folds(path: Path, series: pd.DataFrame) -> pd.DataFrame:
    """The predictions of a file for `series` (rows of train_{F}_folds.csv), indexed by SeriesInstanceUID.

    Raises ValueError naming the file if it is missing or damaged, or if a series was held out in another fold: its
    model was then trained on series that are held out here.
    """
    table = read_predictions(path).set_index("SeriesInstanceUID")
    fold = series.set_index("SeriesInstanceUID").fold
    table = table[table.index.isin(fold.index)]
    wrong = table.index[table.fold.to_numpy() != fold.loc[table.index].to_numpy()]
    if len(wrong):
        raise ValueError(
            f"{path}: expected the folds of create_folds.py, {wrong[0]} in fold {fold[wrong[0]]}, "
            f"found it in fold {table.fold[wrong[0]]} and {len(wrong) - 1} more elsewhere"
        )
    return table


def write_predictions(predictions: pd.DataFrame, path: Path, limited: bool) -> str:
    """Writes predictions, one row per series, with replace_folds; returns a line to print about the file.

    If `limited` (only some series of each fold were predicted), a file with other series of these folds is not changed.
    """
    n_others = _n_others(predictions, path) if limited else 0
    if n_others:
        return f"{path} stays as it is: it holds {n_others} other series of these folds"
    replace_folds(predictions, path)
    return str(path)


def replace_folds(table: pd.DataFrame, path: Path) -> None:
    """Writes out-of-fold predictions; rows of folds that are not in `table` stay as they are in the file.

    `table` has SeriesInstanceUID and fold. The whole file is replaced if it is damaged, has other columns, or has
    other folds (a series of `table` is in another fold there).
    """
    kept = _rows_of_other_folds(table, path)
    if len(kept):
        table = pd.concat([kept, table]).sort_values("fold", kind="stable")
    write_csv(table, path)


def _rows_of_other_folds(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows of the file to keep; all columns but the fold as text, so that numbers are written back unchanged."""
    nothing = table[:0]
    try:
        before = pd.read_csv(path, dtype=str, keep_default_na=False)
        if list(before) != list(table):
            return nothing
        before["fold"] = before.fold.astype(table.fold.dtype)
    except (OSError, ValueError):
        return nothing
    others = before[~before.fold.isin(table.fold)]
    return nothing if others.SeriesInstanceUID.isin(table.SeriesInstanceUID).any() else others


def _n_others(predictions: pd.DataFrame, path: Path) -> int:
    try:
        before = read_predictions(path)
    except ValueError:  # missing or damaged
        return 0
    return int(
        (before.fold.isin(predictions.fold) & ~before.SeriesInstanceUID.isin(predictions.SeriesInstanceUID)).sum()
    )
