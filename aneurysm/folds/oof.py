"""What eval scripts say about held-out series (oof_*.csv): read beside the folds, and written without losing others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from aneurysm.labels import LABELS
from aneurysm.tables import read_table, write_csv


def read_answers(path: Path) -> pd.DataFrame:
    """What an eval script wrote: SeriesInstanceUID, fold and 14 probabilities; ValueError as read_folds."""
    return read_table(path, ["SeriesInstanceUID", "fold", *LABELS], "has its eval script run?")


def answers_in_folds(path: Path, series: pd.DataFrame) -> pd.DataFrame:
    """The answers in a file about `series`, rows of train_{F}_folds.csv, by SeriesInstanceUID; others are left out.

    Raises ValueError naming the file where it is missing or damaged, or where a series was held out in another fold:
    its model has then been trained on series that are held out here.
    """
    table = read_answers(path).set_index("SeriesInstanceUID")
    fold = series.set_index("SeriesInstanceUID").fold
    table = table[table.index.isin(fold.index)]
    wrong = table.index[table.fold.to_numpy() != fold.loc[table.index].to_numpy()]
    if len(wrong):
        raise ValueError(
            f"{path}: expected the folds of create_folds.py, {wrong[0]} in fold {fold[wrong[0]]}, "
            f"found it in fold {table.fold[wrong[0]]} and {len(wrong) - 1} more elsewhere"
        )
    return table


def write_answers(answers: pd.DataFrame, path: Path, limited: bool) -> str:
    """Writes answers, one row a series, as replace_folds does; returns what there is to print about the file.

    Where only some series of each fold were asked about (`limited`), a file that holds others of these folds stays.
    """
    n_others = _n_others(answers, path) if limited else 0
    if n_others:
        return f"{path} stays as it is: it holds {n_others} series of these folds that were not asked about now"
    replace_folds(answers, path)
    return str(path)


def replace_folds(table: pd.DataFrame, path: Path) -> None:
    """Writes out-of-fold answers, by fold: rows of folds that `table` has none of stay as they are in the file.

    `table` has SeriesInstanceUID and fold. A file that is damaged, has other columns, or comes from another division
    into folds (a series of the table has another fold there) is replaced as a whole.
    """
    kept = _rows_of_other_folds(table, path)
    if len(kept):
        table = pd.concat([kept, table]).sort_values("fold", kind="stable")
    write_csv(table, path)


def _rows_of_other_folds(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Of the file, as text but for the fold, so that numbers are written back as they were."""
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


def _n_others(answers: pd.DataFrame, path: Path) -> int:
    try:
        before = read_answers(path)
    except ValueError:  # not there, or damaged
        return 0
    return int((before.fold.isin(answers.fold) & ~before.SeriesInstanceUID.isin(answers.SeriesInstanceUID)).sum())
