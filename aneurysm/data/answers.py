"""What eval scripts say about held-out series (oof_*.csv): read beside the folds, and written without losing others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from aneurysm.data.tables import read_answers, replace_folds


def write_answers(answers: pd.DataFrame, path: Path, limited: bool) -> str:
    """Writes answers, one row a series, as replace_folds does; returns what there is to print about the file.

    Where only some series of each fold were asked about (`limited`), a file that holds others of these folds stays.
    """
    n_others = _n_others(answers, path) if limited else 0
    if n_others:
        return f"{path} stays as it is: it holds {n_others} series of these folds that were not asked about now"
    replace_folds(answers, path)
    return str(path)


def _n_others(answers: pd.DataFrame, path: Path) -> int:
    try:
        before = read_answers(path)
    except ValueError:  # not there, or damaged
        return 0
    return int((before.fold.isin(answers.fold) & ~before.SeriesInstanceUID.isin(answers.SeriesInstanceUID)).sum())
