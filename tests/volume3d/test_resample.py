"""Samples of a line: means of the curve through the pixels, by their places and not by their numbers."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.ndimage import map_coordinates

from volume3d.grid import line_weights


def uneven(n: int = 40, seed: int = 0) -> np.ndarray:
    """(n,) places with gaps from 0.3 to 5 mm."""
    return np.cumsum(np.random.default_rng(seed).choice([0.3, 0.7, 1.0, 2.5, 5.0], n)) - 20


@pytest.mark.parametrize("step_mm", [0.2, 1.0, 3.0, 20.0])
def test_a_ramp_over_uneven_gaps_stays_the_same_ramp_in_millimetres(step_mm):
    pixels_mm = uneven()
    centres_mm = np.arange(pixels_mm[0], pixels_mm[-1], step_mm)
    samples = line_weights(pixels_mm, centres_mm, step_mm) @ (7 - 0.4 * pixels_mm)
    assert samples == pytest.approx(7 - 0.4 * centres_mm, abs=1e-9)


def test_samples_closer_than_the_pixels_are_linear_interpolation():
    rng = np.random.default_rng(1)
    pixels_mm, values = 2.0 * np.arange(30) - 11, rng.random(30)
    centres_mm = np.arange(-13, 52, 0.9)
    samples = line_weights(pixels_mm, centres_mm, 0.9) @ values
    assert samples == pytest.approx(np.interp(centres_mm, pixels_mm, values), abs=1e-9)
    by_scipy = map_coordinates(values, [(centres_mm + 11) / 2], order=1, mode="nearest")
    assert samples == pytest.approx(by_scipy, abs=1e-9)


def test_samples_further_apart_than_the_pixels_are_means_of_the_curve_over_their_step():
    pixels_mm, step_mm = uneven(), 6.0
    values = np.random.default_rng(2).random(len(pixels_mm))
    centres_mm = np.arange(pixels_mm[0] + 3, pixels_mm[-1] - 3, step_mm)
    samples = line_weights(pixels_mm, centres_mm, step_mm) @ values
    for centre, sample in zip(centres_mm, samples, strict=True):
        low, high = centre - step_mm / 2, centre + step_mm / 2
        corners = pixels_mm[(pixels_mm > low) & (pixels_mm < high)]
        total, _ = quad(lambda x: np.interp(x, pixels_mm, values), low, high, points=corners, limit=200)
        assert sample == pytest.approx(total / step_mm, abs=1e-7)


def test_no_slice_is_stepped_over_and_none_counts_twice():
    pixels_mm = 0.5 * np.arange(200)
    centres_mm = 0.2 + 3.0 * np.arange(33)
    weights = line_weights(pixels_mm, centres_mm, 3.0).toarray()
    inner = slice(10, 180)
    assert weights.sum(axis=0)[inner] == pytest.approx(0.5 / 3.0, abs=1e-9)  # each 0.5 mm of the 3 mm of a sample


def test_beyond_the_last_pixel_its_value_goes_on_and_weights_are_shares():
    pixels_mm = uneven()
    for step_mm in (0.4, 4.0):
        weights = line_weights(pixels_mm, np.linspace(-40, 120, 60), step_mm).toarray()
        assert weights.min() >= 0 and weights.sum(axis=1) == pytest.approx(1, abs=1e-9)
        assert weights[0, 0] == weights[-1, -1] == 1
    assert line_weights(np.array([5.0]), np.array([1.0, 9.0]), 3.0).toarray().tolist() == [[1], [1]]
