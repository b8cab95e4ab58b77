"""The tables of the cache: one row a series, one row a slice, one row an error; gathered from the series' files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aneurysm.data.description import read_description
from aneurysm.data.preprocess import Outcome
from aneurysm.data.spots import COLUMNS as SPOT_COLUMNS
from aneurysm.harmless import printable
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.paths import DataPaths, written_whole

_TEXT_COLUMNS = ("SeriesInstanceUID", "SOPInstanceUID", "patient_id", "location", "coordinates")
FROM_COMPETITION = "it comes with the data of the competition"
FEWEST_TO_TELL = 10  # series: of fewer, most may well be of one patient
FROM_PREPROCESSING = "has preprocess_data.py run?"
_SLICE_SCHEMA = pa.schema(
    [
        ("SeriesInstanceUID", pa.string()),
        ("slice", pa.int32()),
        ("position_mm", pa.float64()),
        ("SOPInstanceUID", pa.string()),  # null in re-sliced series, whose slices cut through all images
        ("frame", pa.int32()),
    ]
)


def series_to_do(paths: DataPaths) -> list[str]:
    """SeriesInstanceUIDs of train.csv, in its order; without one, the names of the folders in series/.

    Raises ValueError naming the file where neither is there or train.csv has no or repeated UIDs.
    """
    if not paths.train_csv.exists():
        if not paths.series.is_dir():
            raise ValueError(f"{paths.root}: expected train.csv or series/, found neither")
        return sorted(folder.name for folder in paths.series.iterdir() if folder.is_dir())
    train = read_table(paths.train_csv, ["SeriesInstanceUID"], FROM_COMPETITION)
    uids = train.SeriesInstanceUID
    require(paths.train_csv, uids, uids.notna(), "one row a series, found it empty")
    require(paths.train_csv, uids, ~uids.duplicated(), "one row a series, found repeated")
    return uids.tolist()


def require(path: Path, column: pd.Series, good: pd.Series, expected: str) -> None:
    """Raises ValueError naming the file, the line of the first value that is not `good`, the column and the value.

    Lines are counted as in the file, the head being the first; blank ones do not count.
    """
    bad = np.flatnonzero(~good.to_numpy(bool))
    if len(bad):
        found = column.iloc[bad[0]]
        found = found if isinstance(found, str) else str(found)
        raise ValueError(
            f"{path}: expected {expected} {found!r} in line {bad[0] + 2}, column {column.name}"
            + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
        )


def unlisted_series(paths: DataPaths, series_uids: Sequence[str]) -> list[str]:
    """Folders in series/ that train.csv does not name."""
    folders = {folder.name for folder in paths.series.iterdir()} if paths.series.is_dir() else set()
    return sorted(folders - set(series_uids))


def write_tables(paths: DataPaths, outcomes: Sequence[Outcome]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Writes train_meta.csv, slices.parquet and preprocess_errors.csv; returns the first and the last.

    Every outcome is a row of one of the two.
    """
    meta = write_meta(paths, [outcome.series_uid for outcome in outcomes if not outcome.kind])
    errors = error_rows(outcomes)
    write_csv(errors, paths.preprocess_errors_csv)
    return meta, errors


def write_meta(paths: DataPaths, series_uids: Sequence[str]) -> pd.DataFrame:
    """Writes slices.parquet and train_meta.csv of series that are in the cache; returns the latter.

    Of a folder's name that is no text the bytes are spelt out.

    Where train.csv names a Modality, it is the series_type.
    """
    rows = []
    with written_whole(paths.slices_parquet) as beside, pq.ParquetWriter(beside, _SLICE_SCHEMA) as slices:
        for series_uid in series_uids:
            saved = read_description(paths.npy_sequence / f"{series_uid}.json")
            rows.append(saved["meta"] | {"SeriesInstanceUID": printable(saved["meta"]["SeriesInstanceUID"])})
            slices.write_table(_slice_rows(saved))
    meta = (
        pd.DataFrame(rows) if rows else pd.DataFrame(columns=["SeriesInstanceUID", "series_type", "plane", "vessels"])
    )
    if paths.train_csv.exists():
        said = pd.read_csv(paths.train_csv, dtype={"SeriesInstanceUID": str}).set_index("SeriesInstanceUID")
        if "Modality" in said:
            meta["series_type"] = meta.SeriesInstanceUID.map(said.Modality).fillna(meta.series_type)
    write_csv(meta, paths.train_meta_csv)
    return meta


def error_rows(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row for each series that could not be preprocessed: SeriesInstanceUID, kind, message."""
    failed = [(printable(o.series_uid), o.kind, o.message) for o in outcomes if o.kind]
    return pd.DataFrame(failed, columns=["SeriesInstanceUID", "kind", "message"])


def labelled_series(paths: DataPaths) -> pd.DataFrame:
    """train.csv with the columns of train_meta.csv; empty in these for a series that is not in the cache.

    One patient_id of most series, as some anonymisers write it, tells no patients apart and counts as none, with a
    warning. Raises ValueError naming the file where one is missing or damaged, and line and column where a label of
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
    """train_{folds}_folds.csv, one row a series; ValueError naming the file where it is missing or damaged."""
    columns = ["SeriesInstanceUID", "fold", "n_slices", "series_type", "plane", *LABELS]
    return read_table(cache_dir / f"train_{folds}_folds.csv", columns, _made_by(folds))


def read_spots(cache_dir: Path, folds: int) -> pd.DataFrame:
    """train_stage1_{folds}_folds.csv, one row a spot; ValueError as read_folds."""
    return read_table(cache_dir / f"train_stage1_{folds}_folds.csv", SPOT_COLUMNS, _made_by(folds))


def read_unplaced(cache_dir: Path, folds: int) -> pd.DataFrame:
    """localizer_errors.csv, one row a localizer without a place; ValueError as read_folds."""
    return read_table(DataPaths(cache_dir).localizer_errors_csv, ["SeriesInstanceUID"], _made_by(folds))


def chosen_folds(fold: str, folds: int, none: bool = False) -> list[int | None]:
    """The folds that a script's `--fold` names: one, `all`, or, where `none` allows for it, none (as [None]), which
    holds nothing out. Raises ValueError for anything else."""
    if fold == "all":
        return list(range(folds))
    if fold == "none":
        if none:
            return [None]
        raise ValueError(
            "fold none: expected a fold to evaluate on; models of all series have seen every one of these: "
            "eval_end_to_end.py --fold none --export packs them, and predict.py asks them about other series"
        )
    if not fold.isdigit() or int(fold) >= folds:
        raise ValueError(f"fold {fold}: expected a number below {folds}, or all{', or none' if none else ''}")
    return [int(fold)]


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table without its index, whole or not at all."""
    with written_whole(path) as beside:
        table.to_csv(beside, index=False)


def _made_by(folds: int) -> str:
    return f"has create_folds.py run with --folds {folds}?"


def read_table(path: Path, columns: Sequence[str], hint: str) -> pd.DataFrame:
    """A table of the competition or of a script; ValueError naming the file where it is missing (`hint`) or damaged."""
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


def _slice_rows(saved: dict) -> pa.Table:
    meta, mapping, positions = saved["meta"], saved["mapping"], saved["position_mm"]
    crop, images = mapping["crop"], mapping["images"]
    n_slices = len(positions)
    if meta["resliced"]:
        sources = [(None, None)] * n_slices
    else:
        turned = images[::-1] if mapping["flip"][0] else images
        sources = turned[crop["first"] : crop["first"] + n_slices]
    columns = [[printable(meta["SeriesInstanceUID"])] * n_slices, range(n_slices), positions]
    columns += [[uid for uid, _ in sources], [frame for _, frame in sources]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SLICE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_SLICE_SCHEMA)
