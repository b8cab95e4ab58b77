"""Spots: places that stage 1 is trained on, at localizers and away from them. Distances are in millimetres."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from aneurysm.labels import PRESENT

REDRAWS = 8  # heights drawn per negative spot: some lie too near to a localizer, or outside the series
COLUMNS = [
    "SeriesInstanceUID", "fold", "kind", "slice", "position_mm", "x", "y", "location", "modality", "plane",
]  # fmt: skip


def positive_spots(series: pd.DataFrame, placed: pd.DataFrame, position_mm: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row per placed localizer: its slice, the slice's position, and x and y in pixels of the cache.

    `series` has SeriesInstanceUID, fold, series_type and plane; `position_mm` gives each series' slice positions.
    """
    known = series.set_index("SeriesInstanceUID")
    rows = []
    for point in placed.drop_duplicates().itertuples():
        positions = position_mm[point.SeriesInstanceUID]
        index = int(np.clip(round(point.slice), 0, len(positions) - 1))
        own = known.loc[point.SeriesInstanceUID]
        where = (index, positions[index], point.cache_x, point.cache_y, point.location)
        rows.append((point.SeriesInstanceUID, own.fold, "positive", *where, own.series_type, own.plane))
    return pd.DataFrame(rows, columns=COLUMNS)


def negative_spots(
    series: pd.DataFrame,
    positives: pd.DataFrame,
    unplaced: pd.DataFrame,
    position_mm: Mapping[str, np.ndarray],
    per_series: int,
    safe_mm: float,
    seed: int,
) -> pd.DataFrame:
    """Up to `per_series` slices of each series, at least `safe_mm` from each of its localizers along the slice axis.

    Their heights (millimetres below the uppermost slice) are drawn from the positives of the same modality and plane,
    so that height does not reveal the label. Series in `excluded_series` are skipped.
    """
    barred = excluded_series(series, positives, unplaced)
    heights = _heights(positives, position_mm)
    marked = localizer_positions(positives)
    rows = []
    for own in series.itertuples():
        uid = own.SeriesInstanceUID
        if uid in barred:
            continue
        positions = position_mm[uid]
        wanted = positions[-1] - _draw(heights, own, REDRAWS * per_series, _stream(seed, uid))
        for index in _safe_slices(positions, wanted, marked.get(uid, np.empty(0)), safe_mm, per_series):
            where = (index, positions[index], np.nan, np.nan, None)
            rows.append((uid, own.fold, "negative", *where, own.series_type, own.plane))
    return pd.DataFrame(rows, columns=COLUMNS)


def excluded_series(series: pd.DataFrame, positives: pd.DataFrame, unplaced: pd.DataFrame) -> set[str]:
    """Series from which no negatives are drawn, because not all positions of their aneurysms are known.

    They have an unplaced localizer, or are positive without any localizer. `series` has SeriesInstanceUID and Aneurysm
    Present; `positives` are the positive spots and `unplaced` the unplaced localizers, of any series.
    """
    positive = set(series.SeriesInstanceUID[series[PRESENT] == 1])
    return set(unplaced.SeriesInstanceUID) | positive - set(positives.SeriesInstanceUID)


def localizer_positions(positives: pd.DataFrame) -> dict[str, np.ndarray]:
    """Series uid -> positions of its localizers along the slice axis."""
    return {uid: rows.position_mm.to_numpy() for uid, rows in positives.groupby("SeriesInstanceUID")}


def distance_to_localizers(positions: np.ndarray, localizers_mm: np.ndarray) -> np.ndarray:
    """(n,) distance of each position to the nearest localizer of the series; infinite if there is none."""
    return np.abs(positions[:, None] - localizers_mm[None]).min(axis=1, initial=np.inf)


def _heights(positives: pd.DataFrame, position_mm: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Modality, plane and millimetres below the uppermost slice of each positive spot."""
    top = positives.SeriesInstanceUID.map(lambda uid: position_mm[uid][-1])
    return positives[["modality", "plane"]].assign(below_top_mm=top - positives.position_mm)


def _draw(heights: pd.DataFrame, own, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) heights of positives of the same modality and plane; if fewer than 5, of the same plane, else of all."""
    same_plane = heights.plane == own.plane
    for alike in (same_plane & (heights.modality == own.series_type), same_plane, same_plane | True):
        if alike.sum() >= 5:
            drawn = rng.choice(heights.below_top_mm[alike].to_numpy(), n)
            return drawn + rng.normal(0, 3, n)  # jitter of a few millimetres, so that no height repeats
    return rng.uniform(0, 180, n)


def _safe_slices(
    positions: np.ndarray, target_mm: np.ndarray, localizers_mm: np.ndarray, safe_mm: float, n: int
) -> list[int]:
    """Sorted unique slices nearest to the first `n` wanted positions that are far enough from every localizer."""
    target_mm = target_mm[(target_mm >= positions[0]) & (target_mm <= positions[-1])]
    nearest = np.abs(positions[None] - target_mm[:, None]).argmin(axis=1)
    far = distance_to_localizers(positions, localizers_mm) >= safe_mm
    return sorted(set(nearest[far[nearest]][:n].tolist()))


def _stream(seed: int, series_uid: str) -> np.random.Generator:
    """A random generator that depends only on the seed and this series."""
    own = int.from_bytes(hashlib.sha256(series_uid.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, own])
