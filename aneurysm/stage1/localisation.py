"""Localisation by heatmap peaks: distances at positive spots, and FROC of the candidates of whole series.

Points are x, y in pixels of the cache with position_mm, or x_mm, y_mm, z_mm within a series.
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
    """In-plane distance_mm and distance_px from each localizer (x, y) to the peak of its location (peak_x, peak_y).

    All four are in pixels of the cache, whose size is cached_col_mm x cached_row_mm.
    """
    across, down = positives.peak_x - positives.x, positives.peak_y - positives.y
    mm = np.hypot(across * positives.cached_col_mm, down * positives.cached_row_mm)
    return pd.DataFrame({"distance_mm": mm, "distance_px": np.hypot(across, down)})


def localisation(positives: pd.DataFrame) -> pd.DataFrame:
    """One row for all positive spots, then one per modality and per plane: n, fractions within 10 mm and 20 pixels of
    the localizer, and the median distance in mm.

    `positives` has the columns of peak_distances, modality and plane. Raises ValueError if a distance is NaN.
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
    """Adds x_mm, y_mm and z_mm from x, y (cache pixels), cached_col_mm, cached_row_mm and position_mm."""
    return points.assign(
        x_mm=points.x * points.cached_col_mm, y_mm=points.y * points.cached_row_mm, z_mm=points.position_mm
    )


def suppress(candidates: pd.DataFrame, radius_mm: float) -> pd.DataFrame:
    """Greedy 3-D non-maximum suppression within each series; row order is unchanged.

    Drops candidates within `radius_mm` of a retained one with higher probability; of equal ones the first is retained.
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
    """Free-response ROC: one row per allowed rate of false positives, at the lowest threshold within it.

    A localizer is found if a candidate of its series within `hit_mm` (3-D) reaches the threshold. Candidates near no
    localizer are false positives; further candidates near a localizer are ignored. Rates are per series over all
    `n_series`, including negative ones. Columns: allowed, reached (false positives per series), threshold (infinite if
    no candidate is allowed), found, sensitivity (of all localizers; NaN without any). Locations are not compared.
    Raises ValueError for NaN, or for more than `n_series` series.
    """
    _check(candidates, localizers, n_series)
    best, is_false = match(candidates, localizers, hit_mm)
    probability = candidates.probability.to_numpy()
    thresholds = np.append(np.inf, np.unique(probability)[::-1])  # equal probabilities share a threshold
    n_false, n_found = _count_from(probability[is_false], thresholds), _count_from(best, thresholds)
    rows = []
    for allowed in false_positives_per_series:
        at = np.flatnonzero(n_false / n_series <= allowed)[-1]
        sensitivity = n_found[at] / len(best) if len(best) else np.nan
        rows.append((allowed, n_false[at] / n_series, thresholds[at], n_found[at], sensitivity))
    return pd.DataFrame(rows, columns=["allowed", "reached", "threshold", "found", "sensitivity"])


def match(candidates: pd.DataFrame, localizers: pd.DataFrame, hit_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(localizers,) highest probability of a candidate within `hit_mm` (3-D), -inf without one; (candidates,) bool,
    True for false positives, near no localizer of their series. Both tables have SeriesInstanceUID and POINT."""
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
    """(thresholds,) number of values at or above each threshold."""
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="left")


def _check(candidates: pd.DataFrame, localizers: pd.DataFrame, n_series: int) -> None:
    if candidates[[*POINT, "probability"]].isna().any(axis=None) or localizers[POINT].isna().any(axis=None):
        raise ValueError("expected a point and a probability for each candidate, a point for each localizer; found NaN")
    found = len({*candidates.SeriesInstanceUID, *localizers.SeriesInstanceUID})
    if found > n_series:
        raise ValueError(f"expected candidates and localizers of at most {n_series} series, found {found}")
