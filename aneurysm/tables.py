"""Reads CSV tables with errors that name file, line and column, and writes them atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.paths import atomic_write

_TEXT_COLUMNS = ("SeriesInstanceUID", "SOPInstanceUID", "patient_id", "location", "coordinates")
FROM_COMPETITION = "it comes with the data of the competition"
FROM_PREPROCESSING = "has preprocess_data.py run?"


def read_table(path: Path, columns: Sequence[str], hint: str) -> pd.DataFrame:
    """A table of the competition or of a script; ValueError naming the file if it is missing (`hint`) or damaged."""
    if not path.exists():
        raise ValueError(f"{path}: not there; {hint}")
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, str))
    except (ValueError, OSError) as error:  # pandas' own errors do not name the file
        raise ValueError(f"{path}: expected a CSV table, {error}") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}, found no {', '.join(missing)}")
    for name in ("SeriesInstanceUID", "SOPInstanceUID"):
        if name in table:
            require(
                path, table[name], table[name].isna() | (table[name] == table[name].str.strip()), "no blanks, found"
            )
    return table


def require(path: Path, column: pd.Series, good: pd.Series, expected: str) -> None:
    """Raises ValueError naming file, line, column and value of the first row where `good` is False.

    The header is line 1; blank lines do not count.
    """
    bad = np.flatnonzero(~good.to_numpy(bool))
    if len(bad):
        found = column.iloc[bad[0]]
        found = found if isinstance(found, str) else str(found)
        raise ValueError(
            f"{path}: expected {expected} {found!r} in line {bad[0] + 2}, column {column.name}"
            + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
        )


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table without its index, atomically."""
    with atomic_write(path) as beside:
        table.to_csv(beside, index=False)
