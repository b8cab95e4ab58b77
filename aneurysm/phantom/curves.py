"""Smooth curves in space: random deviations along a vessel, and splines through control points."""

from __future__ import annotations

import numpy as np


def smooth_walk(
    rng: np.random.Generator, station_mm: np.ndarray, length_mm: float, start: np.ndarray | None = None
) -> np.ndarray:
    """(n, 3) Gaussian-process sample at n stations, variance 1, length scale `length_mm`; starts at `start` (3,)."""
    station = np.asarray(station_mm, float)
    likeness = np.exp(-0.5 * ((station[:, None] - station[None]) / length_mm) ** 2)
    root = np.linalg.cholesky(likeness + 1e-6 * np.eye(len(station)))
    walk = root @ rng.standard_normal((len(station), 3))
    if start is not None:
        walk += likeness[:, :1] * (np.asarray(start) - walk[0])
    return walk


def through(station: np.ndarray, points: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(m, 3) points at stations `wanted` on a cubic Hermite curve through (n, 3) points; slopes are mean secants."""
    secant = np.diff(points, axis=0) / np.diff(station)[:, None]
    slope = np.vstack([secant[:1], (secant[1:] + secant[:-1]) / 2, secant[-1:]])
    index = np.clip(np.searchsorted(station, wanted, side="right") - 1, 0, len(station) - 2)
    gap = (station[index + 1] - station[index])[:, None]
    share = (wanted - station[index])[:, None] / gap
    left, right = 1 - share, share
    ends = left**2 * (1 + 2 * share) * points[index] + right**2 * (1 + 2 * left) * points[index + 1]
    return ends + gap * left * right * (left * slope[index] - right * slope[index + 1])


def spline(
    station_mm: np.ndarray, points: np.ndarray, radius_mm: np.ndarray, step_mm: float = 0.7
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stations (n,), points (n, 3) and radii (n,) of a smooth curve through the given knots, evenly spaced.

    The spacing is about `step_mm`, with at least 4 points. Radii are interpolated linearly.
    """
    station = np.asarray(station_mm, float)
    fine = np.linspace(station[0], station[-1], 8 * len(station))
    path = chord_stations(through(station, points, fine))
    even = np.interp(np.linspace(0, path[-1], max(4, int(path[-1] / step_mm) + 1)), path, fine)
    return even, through(station, points, even), np.interp(even, station, radius_mm)


def chord_stations(points: np.ndarray) -> np.ndarray:
    """(n,) cumulative chord length in mm along (n, 3) points."""
    return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector scaled to length 1; a zero vector stays zero."""
    return np.asarray(vector, float) / (np.linalg.norm(vector) + 1e-9)
