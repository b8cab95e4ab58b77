"""Hard negatives: slices far from every localizer in which an out-of-fold stage 1 predicts an aneurysm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aneurysm.folds.spots import distance_to_localizers, localizer_positions
from aneurysm.paths import atomic_write

SCHEMA = pa.schema(
    [
        ("SeriesInstanceUID", pa.string()),
        ("slice", pa.int32()),
        ("probability", pa.float32()),  # of Aneurysm Present, by the model that held this series out
        ("position_mm", pa.float64()),
        ("fold", pa.int32()),
    ]
)
LARGEST = np.iinfo(np.int32).max  # slice index


def select_hard_negatives(
    slices: pd.DataFrame, positives: pd.DataFrame, excluded: set[str], threshold: float, safe_mm: float
) -> pd.DataFrame:
    """The rows of `slices` with a probability of at least `threshold`, at least `safe_mm` from every localizer along
    the slice axis, sorted by series and slice.

    `slices` has the columns of SCHEMA, one row per slice; `positives` are the positive spots. Series in `excluded` (see
    excluded_series) are left out. Raises ValueError if a probability is NaN.
    """
    if slices.probability.isna().any():
        unknown = slices.SeriesInstanceUID[slices.probability.isna()].iloc[0]
        raise ValueError(f"expected a probability for each slice, found NaN in series {unknown}")
    likely = slices.loc[(slices.probability >= threshold) & ~slices.SeriesInstanceUID.isin(excluded), SCHEMA.names]
    localizers_mm, none = localizer_positions(positives), np.empty(0)
    chosen = [
        rows[distance_to_localizers(rows.position_mm.to_numpy(), localizers_mm.get(uid, none)) >= safe_mm]
        for uid, rows in likely.groupby("SeriesInstanceUID")
    ]
    return pd.concat([likely[:0], *chosen]).sort_values(["SeriesInstanceUID", "slice"], ignore_index=True)


def write_hard_negatives(table: pd.DataFrame, path: Path) -> None:
    """Writes the columns of SCHEMA atomically; ValueError naming the file if one is missing."""
    _check_columns(path, SCHEMA.names, table.columns)
    rows = pa.Table.from_pandas(table[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    with atomic_write(path) as beside:
        pq.write_table(rows, beside)


def read_hard_negatives(path: str | Path) -> dict[str, np.ndarray]:
    """Series uid -> sorted unique slice indices, from a file of write_hard_negatives.

    Raises ValueError naming the file if it is missing, damaged, lacks a column, or holds invalid series uids or slice
    indices.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: not there; mine_hard_negatives.py makes it")
    found = _read_parquet(path)
    for uid, numbers in found.items():
        if len(numbers) and not 0 <= min(numbers) <= max(numbers) <= LARGEST:
            raise ValueError(f"{path}: expected slice indices, found {min(numbers)} to {max(numbers)} for {uid}")
    return {uid: np.unique(np.array(numbers, int)) for uid, numbers in found.items()}


def _read_parquet(path: Path) -> dict[str, list[int]]:
    try:
        table = pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a Parquet file; {error}") from error
    _check_columns(path, ["SeriesInstanceUID", "slice"], table.columns)
    uids, indices = table.SeriesInstanceUID, table.slice
    if not pd.api.types.is_string_dtype(uids) or uids.isna().any():
        raise ValueError(f"{path}: expected series uids as text, found {uids.dtype} with {uids.isna().sum()} missing")
    if not pd.api.types.is_integer_dtype(indices):
        raise ValueError(f"{path}: expected slice indices as whole numbers, found {indices.dtype}")
    return {uid: rows.tolist() for uid, rows in indices.groupby(uids)}


def _check_columns(path: Path, expected: list[str], found: pd.Index) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(f"{path}: expected the columns {', '.join(expected)}, found no {', '.join(missing)}")
