"""Each change of a training sample, measured on pictures of dots and of known values."""

import functools
import os
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from aneurysm.stage1 import transforms as augment_module
from aneurysm.stage1.config import AugmentConfig
from aneurysm.stage1.transforms import augment, make_pipeline
from tests.stage1_samples import (
    CHANCES,
    EVERYTHING,
    NOTHING,
    SIZE,
    changed_image,
    dots,
    equal,
    only,
    sample_of,
    textured,
)  # fmt: skip

cv2.setNumThreads(1)


def test_without_any_chance_nothing_changes():
    sample = textured()
    assert equal(augment(sample, make_pipeline(NOTHING), 3), sample)


@pytest.mark.parametrize("chance", CHANCES)
def test_every_chance_of_one_changes_the_image_and_only_geometry_moves_points_and_vessels(chance):
    before = textured()
    after = augment(before, make_pipeline(only(chance)), 1)
    moves = chance in ("affine_p", "distort_p")
    assert not np.array_equal(after.image, before.image)
    assert np.array_equal(after.points, before.points) != moves
    assert np.array_equal(after.vessels, before.vessels) != moves


def test_gamma_takes_values_to_the_power_of_a_gamma_within_its_settings():
    values = np.linspace(0.1, 0.9, 3 * SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE, 3)
    config = only("gamma_p", gamma_low=0.7, gamma_high=1.4)
    powers = np.array([np.log(changed_image(values, config, seed)) / np.log(values) for seed in range(40)])
    gammas = np.median(powers, axis=(1, 2, 3))
    np.testing.assert_allclose(powers, np.broadcast_to(gammas[:, None, None, None], powers.shape), atol=1e-4)
    assert 0.7 <= gammas.min() < 0.76 and 1.3 < gammas.max() <= 1.4


def test_brightness_and_contrast_are_one_straight_line_within_their_settings_clipped_to_0_and_1():
    values = np.linspace(0, 1, 3 * SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE, 3)
    config = only("contrast_p", brightness=0.08, contrast=0.15)
    lines = []
    for seed in range(60):
        changed = changed_image(values, config, seed)
        middle = (values > 0.2) & (values < 0.75)  # never clipped
        slope, offset = np.polyfit(values[middle], changed[middle], 1)
        np.testing.assert_allclose(changed, np.clip(slope * values + offset, 0, 1), atol=1e-5)
        lines.append((slope - 1, offset))
    lines = np.array(lines)
    assert (np.abs(lines).max(axis=0) <= (0.1501, 0.0801)).all()
    assert (lines.min(axis=0) < (-0.12, -0.064)).all() and (lines.max(axis=0) > (0.12, 0.064)).all()


def test_noise_has_no_mean_and_a_standard_deviation_within_its_setting():
    grey = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    noise = np.array([changed_image(grey, only("noise_p", noise_std=0.03), seed) - 0.5 for seed in range(40)])
    spread = noise.std(axis=(1, 2, 3))
    assert 0.02 < spread.max() < 0.0303 and spread.min() < 0.01 and np.abs(noise.mean()) < 1e-3
    channels = np.corrcoef(noise[spread.argmax()].reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 0.05  # slices have noise of their own


def test_blur_widens_a_dot_by_a_sigma_within_its_setting():
    picture = dots(np.full((3, 2), 64.0))
    squared = (np.arange(SIZE) - 64.0) ** 2
    sigmas = []
    for seed in range(40):
        profile = changed_image(picture, only("blur_p", blur_sigma=1.0), seed)[..., 1].sum(axis=0)
        sigmas.append(np.sqrt((profile * squared).sum() / profile.sum() - 1.5**2))  # variances add up
    assert 0.43 < min(sigmas) < 0.55 and 0.9 < max(sigmas) < 1.02  # sigma 0.5 sampled at whole pixels is 0.46


def test_dropout_makes_black_holes_of_the_set_number_and_size_and_keeps_every_point():
    white = np.ones((200, 100, 3), np.float32)
    single = only("dropout_p", dropout_holes=1, dropout_size=0.1)
    one = np.array([hole_in(changed_image(white, single, seed)) for seed in range(60)])
    assert (one.min(axis=0) >= (10, 5)).all() and (one.max(axis=0) <= (20, 10)).all()
    assert (one.min(axis=0) <= (11, 6)).all() and (one.max(axis=0) >= (18, 9)).all()
    several = make_pipeline(only("dropout_p", dropout_holes=4, dropout_size=0.05))
    changed = [augment(sample_of(white), several, seed) for seed in range(60)]
    assert all(len(sample.points) == 2 for sample in changed)
    counts = {cv2.connectedComponents((sample.image[..., 0] == 0).astype(np.uint8))[0] - 1 for sample in changed}
    assert counts == {1, 2, 3, 4}


def hole_in(image: np.ndarray) -> tuple[int, int]:
    """Rows and columns of the one black rectangle in a white image."""
    rows, columns = (image == 0).all(axis=2).any(axis=1), (image == 0).all(axis=2).any(axis=0)
    assert set(np.unique(image)) == {0, 1} and (image == 0).sum() == 3 * rows.sum() * columns.sum()
    return rows.sum(), columns.sum()


def test_the_result_depends_on_the_seed_alone():
    sample, first, second = textured(), make_pipeline(EVERYTHING), make_pipeline(EVERYTHING)
    expected = augment(sample, first, (3, 1, 7))
    for other in range(3):
        augment(sample, second, other)
    cv2.setRNGSeed(99)
    assert equal(augment(sample, second, (3, 1, 7)), expected)
    assert not equal(augment(sample, second, (3, 1, 8)), expected)


def test_chances_fall_independently_of_each_other():
    sample = sample_of(np.full((8, 8, 3), 0.5, np.float32))
    pipeline = make_pipeline(replace(NOTHING, gamma_p=0.5, dropout_p=0.5, dropout_size=0.5))
    changed = [augment(sample, pipeline, seed).image for seed in range(100)]
    both = [(bool((image == 0).any()), bool((image[image > 0] != 0.5).all())) for image in changed]
    assert min(both.count((hole, gamma)) for hole in (True, False) for gamma in (True, False)) > 10


def test_the_image_stays_contiguous_float32_in_0_1_and_the_input_as_it_is():
    sample, untouched, pipeline = textured(), textured(), make_pipeline(EVERYTHING)
    for seed in range(20):
        after = augment(sample, pipeline, seed)
        assert after.image.dtype == after.points.dtype == np.float32 and after.image.flags.c_contiguous
        assert after.image.shape == sample.image.shape and after.image.min() >= 0 and after.image.max() <= 1
        after.image[:] = 0
    assert equal(sample, untouched)


def test_an_argument_that_albumentations_does_not_know_is_an_error(monkeypatch):
    misspelt = functools.partial(augment_module.A.RandomGamma, gama_limit=(80, 120))
    monkeypatch.setattr(augment_module.A, "RandomGamma", misspelt)
    with pytest.raises(UserWarning, match="gama_limit"):
        make_pipeline(AugmentConfig())


@pytest.mark.parametrize("wrong", [{"noise_std": 1.5}, {"blur_sigma": -1.0}, {"distort": 2.0}, {"affine_p": 1.1}])
def test_a_setting_out_of_range_is_an_error(wrong):
    with pytest.raises((ValueError, UserWarning)):
        make_pipeline(AugmentConfig(**wrong))


def test_albumentations_is_told_to_ask_no_server_for_a_newer_version_before_it_is_imported():
    code = """
import os, sys
class Spy:
    def find_spec(name, *_):
        if name == "albumentations":
            os._exit(5 if os.environ.get("NO_ALBUMENTATIONS_UPDATE") == "1" else 7)
sys.meta_path.insert(0, Spy)
import aneurysm.stage1.transforms
"""
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 5


def test_settings_can_be_read_where_albumentations_is_missing():
    code = "import sys; sys.modules['albumentations'] = None; import aneurysm.stage1.config"
    subprocess.run([sys.executable, "-c", code], check=True)
