"""Localizers: the annotated aneurysm points in the original images, and their positions in the cache."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from aneurysm.cache.cache import Cache
from aneurysm.labels import LOCATIONS
from aneurysm.tables import FROM_COMPETITION, read_table, require

_COLUMNS = ("SeriesInstanceUID", "SOPInstanceUID", "coordinates", "location")


def read_localizers(path: Path) -> pd.DataFrame:
    """train_localizers.csv with `coordinates` parsed: x (column) and y (row) in pixels, frame (0-based, or NA).

    Raises ValueError naming the file if it or a column is missing, and also the line if a UID is missing, the
    coordinates are not a dict of numbers x, y and optionally f, or the location is unknown. Duplicate rows are dropped
    with a warning.
    """
    table = read_table(path, _COLUMNS, FROM_COMPETITION)
    for name in ("SeriesInstanceUID", "SOPInstanceUID"):
        require(path, table[name], table[name].notna(), "a UID, found")
    if table.duplicated().any():
        warnings.warn(f"{path}: {table.duplicated().sum()} rows repeat another: counted once", stacklevel=2)
        table = table.drop_duplicates()
    points = []
    for row in table.itertuples():
        try:
            points.append(_parse_point(row.coordinates))
            if row.location not in LOCATIONS:
                raise ValueError(f"unknown location {row.location!r}")
        except ValueError as error:
            raise ValueError(f"{path}, line {row.Index + 2}: {error}") from None
    point_columns = pd.DataFrame(points, columns=["x", "y", "frame"], index=table.index)
    return table.drop(columns="coordinates").join(point_columns.astype({"frame": "Int64"}))


def _parse_point(text: str) -> tuple[float, float, int | None]:
    try:
        point = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        point = None
    fits = isinstance(point, dict) and {"x", "y"} <= set(point) <= {"x", "y", "f"}
    if not fits or not all(isinstance(v, int | float) and math.isfinite(v) for v in point.values()):
        raise ValueError(f"expected coordinates like {{'x': 258.3, 'y': 261.4}}, found {text!r}")
    if min(point.values()) < 0 or point.get("f", 0) % 1:
        raise ValueError(f"expected coordinates of at least 0 and a whole frame, found {text!r}")
    return float(point["x"]), float(point["y"]), int(point["f"]) if "f" in point else None


def place_localizers(
    cache: Cache, localizers: pd.DataFrame, series_uids: Collection[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables: localizers with cache_x, cache_y and slice (pixels and slices of the cache), and unplaced localizers.

    The column `error` of the second gives the reason: series not in the cache or not in `series_uids` (if given); image
    missing, frame missing or out of range, point outside the image or outside the cached part of the head.
    """
    placed, errors = [], []
    for row in localizers.itertuples(index=False):
        try:
            if series_uids is not None and row.SeriesInstanceUID not in series_uids:
                raise ValueError("expected a series of train.csv and train_meta.csv, found another")
            mapping = cache.mapping(row.SeriesInstanceUID)
            frame = None if pd.isna(row.frame) else int(row.frame)
            placed.append((*row, *mapping.to_cache(row.x, row.y, row.SOPInstanceUID, frame)))
        except ValueError as error:
            errors.append((*row, str(error)))
    columns = list(localizers.columns)
    return (
        pd.DataFrame(placed, columns=[*columns, "cache_x", "cache_y", "slice"]),
        pd.DataFrame(errors, columns=[*columns, "error"]),
    )
