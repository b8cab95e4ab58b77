"""The tables of the cache: one row per series, per slice and per error, collected from the series' descriptions."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aneurysm.cache.description import read_description
from aneurysm.cache.preprocess import Outcome
from aneurysm.escape import escape_control_characters
from aneurysm.paths import DataPaths, atomic_write
from aneurysm.tables import FROM_COMPETITION, read_table, require, write_csv

_SLICE_SCHEMA = pa.schema(
    [
        ("SeriesInstanceUID", pa.string()),
        ("slice", pa.int32()),
        ("position_mm", pa.float64()),
        ("SOPInstanceUID", pa.string()),  # null in re-sliced series: a slice cuts through all images
        ("frame", pa.int32()),
    ]
)


def series_to_do(paths: DataPaths) -> list[str]:
    """SeriesInstanceUIDs of train.csv, in its order; without a train.csv, the names of the folders in series/.

    Raises ValueError naming the file if neither exists, or if train.csv has missing or repeated UIDs.
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


def unlisted_series(paths: DataPaths, series_uids: Sequence[str]) -> list[str]:
    """Folders in series/ that are not in `series_uids`."""
    folders = {folder.name for folder in paths.series.iterdir()} if paths.series.is_dir() else set()
    return sorted(folders - set(series_uids))


def write_tables(paths: DataPaths, outcomes: Sequence[Outcome]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Writes train_meta.csv, slices.parquet and preprocess_errors.csv; returns the first and the last.

    Every outcome is a row in one of these two.
    """
    meta = write_meta(paths, [outcome.series_uid for outcome in outcomes if not outcome.kind])
    errors = error_rows(outcomes)
    write_csv(errors, paths.preprocess_errors_csv)
    return meta, errors


def write_meta(paths: DataPaths, series_uids: Sequence[str]) -> pd.DataFrame:
    """Writes slices.parquet and train_meta.csv for cached series; returns the latter.

    Control characters in folder names are escaped. If train.csv has a Modality, it becomes the series_type.
    """
    rows = []
    with atomic_write(paths.slices_parquet) as beside, pq.ParquetWriter(beside, _SLICE_SCHEMA) as slices:
        for series_uid in series_uids:
            saved = read_description(paths.npy_sequence / f"{series_uid}.json")
            rows.append(
                saved["meta"] | {"SeriesInstanceUID": escape_control_characters(saved["meta"]["SeriesInstanceUID"])}
            )
            slices.write_table(_slice_rows(saved))
    meta = (
        pd.DataFrame(rows) if rows else pd.DataFrame(columns=["SeriesInstanceUID", "series_type", "plane", "vessels"])
    )
    if paths.train_csv.exists():
        train = read_table(paths.train_csv, ["SeriesInstanceUID"], FROM_COMPETITION).set_index("SeriesInstanceUID")
        if "Modality" in train:
            meta["series_type"] = meta.SeriesInstanceUID.map(train.Modality).fillna(meta.series_type)
    write_csv(meta, paths.train_meta_csv)
    return meta


def error_rows(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row for each series that could not be preprocessed: SeriesInstanceUID, kind, message."""
    failed = [(escape_control_characters(o.series_uid), o.kind, o.message) for o in outcomes if o.kind]
    return pd.DataFrame(failed, columns=["SeriesInstanceUID", "kind", "message"])


def _slice_rows(saved: dict) -> pa.Table:
    meta, mapping, positions = saved["meta"], saved["mapping"], saved["position_mm"]
    crop, images = mapping["crop"], mapping["images"]
    n_slices = len(positions)
    if meta["resliced"]:
        sources = [(None, None)] * n_slices
    else:
        turned = images[::-1] if mapping["flip"][0] else images
        sources = turned[crop["first"] : crop["first"] + n_slices]
    columns = [[escape_control_characters(meta["SeriesInstanceUID"])] * n_slices, range(n_slices), positions]
    columns += [[uid for uid, _ in sources], [frame for _, frame in sources]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SLICE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_SLICE_SCHEMA)
