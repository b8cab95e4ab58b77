"""How well heatmap peaks find the localizers: distances on positive spots, and candidates of whole series (FROC).

Points are in pixels of the cache (x, y) with a slice position, or in millimetres (x_mm, y_mm, z_mm) of one series.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from aneurysm.scores import each_subgroup

NEAR_MM, NEAR_PX = 10, 20
POINT = ["x_mm", "y_mm", "z_mm"]


def peak_distances(positives: pd.DataFrame) -> pd.DataFrame:
    """distance_mm and distance_px in the plane from each localizer (x, y) to its own location's peak (peak_x, peak_y).

    The four are in pixels of the cache, cached_col_mm wide and cached_row_mm high.
    """
    across, down = positives.peak_x - positives.x, positives.peak_y - positives.y
    mm = np.hypot(across * positives.cached_col_mm, down * positives.cached_row_mm)
    return pd.DataFrame({"distance_mm": mm, "distance_px": np.hypot(across, down)})


def localisation(positives: pd.DataFrame) -> pd.DataFrame:
    """One row for all positive spots, then one per modality and plane: n, the shares within 10 mm and within 20 pixels
    of the localizer, and the median distance in mm.

    `positives` has what peak_distances reads, modality and plane. Raises ValueError where a distance is NaN.
    """
    distances = peak_distances(positives)
    if distances.isna().any(axis=None):
        raise ValueError(f"expected a peak and a place for each spot, {distances.distance_mm.isna().sum()} have none")
    everything = ("all", "", np.ones(len(positives), bool))
    rows = []
    for by, value, own in (everything, *each_subgroup(positives[["modality", "plane"]])):
        mm, px = distances.distance_mm[own], distances.distance_px[own]
        rows.append((by, value, len(mm), (mm <= NEAR_MM).mean(), (px <= NEAR_PX).mean(), mm.median()))
    columns = ["by", "value", "n", f"within_{NEAR_MM}_mm", f"within_{NEAR_PX}_px", "median_mm"]
    return pd.DataFrame(rows, columns=columns).set_index(["by", "value"])


def points_mm(points: pd.DataFrame) -> pd.DataFrame:
    """The table with x_mm, y_mm and z_mm, from x, y (cache pixels), cached_col_mm, cached_row_mm and position_mm."""
    return points.assign(
        x_mm=points.x * points.cached_col_mm, y_mm=points.y * points.cached_row_mm, z_mm=points.position_mm
    )


def suppress(candidates: pd.DataFrame, radius_mm: float) -> pd.DataFrame:
    """The candidates that no more probable kept one lies within `radius_mm` of, in their series; order as it was.

    Greedy non-maximum suppression in three dimensions. Of equal probabilities, the first row is kept.
    """
    points, probability = candidates[POINT].to_numpy(), candidates.probability.to_numpy()
    kept = np.zeros(len(candidates), bool)
    for rows in candidates.groupby("SeriesInstanceUID").indices.values():
        tree, is_open = cKDTree(points[rows]), np.ones(len(rows), bool)
        for own in np.argsort(-probability[rows], kind="stable"):
            if is_open[own]:
                kept[rows[own]] = True
                is_open[tree.query_ball_point(points[rows[own]], radius_mm)] = False
    return candidates[kept]


def froc(
    candidates: pd.DataFrame,
    localizers: pd.DataFrame,
    n_series: int,
    hit_mm: float,
    false_positives_per_series: Sequence[float] = (0.5, 1, 2, 4),
) -> pd.DataFrame:
    """Free-response ROC: one row per allowed rate of false positives, at the lowest threshold that keeps to it.

    A localizer is found if a candidate of its series with at least the threshold's probability lies within `hit_mm`
    (3-D); candidates that lie near no localizer are false positives; further candidates near a found one are neither.
    Rates are over all `n_series`, negative ones and those without candidates included. Columns: allowed and reached
    (false positives per series), threshold (infinite where no candidate is allowed), found, sensitivity (of all
    localizers). Locations are not compared. Raises ValueError for NaN, or more series than `n_series`.
    """
    _check(candidates, localizers, n_series)
    best, is_false = match(candidates, localizers, hit_mm)
    probability = candidates.probability.to_numpy()
    thresholds = np.append(np.inf, np.unique(probability)[::-1])  # equal probabilities pass together
    n_false, n_found = _count_from(probability[is_false], thresholds), _count_from(best, thresholds)
    rows = []
    for allowed in false_positives_per_series:
        at = np.flatnonzero(n_false / n_series <= allowed)[-1]
        sensitivity = n_found[at] / len(best) if len(best) else np.nan
        rows.append((allowed, n_false[at] / n_series, thresholds[at], n_found[at], sensitivity))
    return pd.DataFrame(rows, columns=["allowed", "reached", "threshold", "found", "sensitivity"])


def match(candidates: pd.DataFrame, localizers: pd.DataFrame, hit_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(localizers,) the highest probability within `hit_mm` of each (3-D), -inf for none; and (candidates,) bool, True
    for those near no localizer of their series. Both tables have SeriesInstanceUID and POINT."""
    points, probability = candidates[POINT].to_numpy(), candidates.probability.to_numpy()
    targets = localizers[POINT].to_numpy()
    best, is_false = np.full(len(targets), -np.inf), np.ones(len(points), bool)
    of_series = candidates.groupby("SeriesInstanceUID").indices
    for uid, marked in localizers.groupby("SeriesInstanceUID").indices.items():
        rows = of_series.get(uid, np.empty(0, int))
        near = cKDTree(targets[marked]).query_ball_point(points[rows], hit_mm)
        for row, hits in zip(rows, near, strict=True):
            is_false[row] = not hits
            best[marked[hits]] = np.maximum(best[marked[hits]], probability[row])
    return best, is_false


def _count_from(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(thresholds,) how many values are at least each threshold."""
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="left")


def _check(candidates: pd.DataFrame, localizers: pd.DataFrame, n_series: int) -> None:
    if candidates[[*POINT, "probability"]].isna().any(axis=None) or localizers[POINT].isna().any(axis=None):
        raise ValueError("expected a point and a probability for each candidate, a point for each localizer; found NaN")
    found = len({*candidates.SeriesInstanceUID, *localizers.SeriesInstanceUID})
    if found > n_series:
        raise ValueError(f"expected candidates and localizers of at most {n_series} series, found {found}")
