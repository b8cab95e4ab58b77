"""New samples of a line of pixels, at positions in millimetres, as weights: exact for pixels at any distances."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array


def line_weights(pixels_mm: np.ndarray, centres_mm: np.ndarray, step_mm: float) -> csr_array:
    """(n, m) weights that make n samples at `centres_mm`, `step_mm` apart, of m values at `pixels_mm`, increasing.

    The values are joined by straight lines, and each sample is the mean of that curve over `step_mm` around its centre,
    so that nothing is stepped over where samples lie further apart than pixels. Elsewhere it is the curve at its centre
    (linear interpolation). Near the first and the last pixel the mean is over less, on both sides alike: a ramp
    stays the same ramp up to these pixels; beyond them their values go on. All weights are >= 0, each row sums to 1.
    """
    width_mm = _widths(pixels_mm, centres_mm, step_mm)
    # The curve is the sum of values times hats, and a hat is the difference of two ramps from 0 to 1.
    starts, ends = pixels_mm[:-1], pixels_mm[1:]
    ramps = _mean_ramp(starts, ends, centres_mm[:, None], width_mm[:, None])
    ones, zeros = np.ones((len(centres_mm), 1)), np.zeros((len(centres_mm), 1))
    weights = -np.diff(np.hstack([ones, ramps, zeros]), axis=1)
    return csr_array(np.where(weights > 1e-9, weights, 0))


def _widths(pixels_mm: np.ndarray, centres_mm: np.ndarray, step_mm: float) -> np.ndarray:
    """(n,) millimetres over which each sample is a mean; 0 where the pixels around it lie no closer than samples."""
    if len(pixels_mm) < 2:
        return np.zeros(len(centres_mm))
    before = np.clip(np.searchsorted(pixels_mm, centres_mm) - 1, 0, len(pixels_mm) - 2)
    gap_mm = np.diff(pixels_mm)[before]
    to_end_mm = np.minimum(centres_mm - pixels_mm[0], pixels_mm[-1] - centres_mm).clip(min=0)
    return np.where(step_mm > gap_mm * (1 + 1e-6), np.minimum(step_mm, 2 * to_end_mm), 0.0)


def _mean_ramp(start: np.ndarray, end: np.ndarray, centre: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Mean over `width` around `centre` of a ramp that is 0 up to `start` and 1 from `end` on."""

    def integral(x: np.ndarray) -> np.ndarray:
        inside = np.clip(x - start, 0, end - start)
        return inside**2 / (2 * (end - start)) + np.maximum(x - end, 0)

    at_centre = np.clip((centre - start) / (end - start), 0, 1)
    mean = (integral(centre + width / 2) - integral(centre - width / 2)) / np.where(width > 0, width, 1)
    return np.where(width > 0, mean, at_centre)
