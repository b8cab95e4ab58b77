"""Changed looks: what each change does to an image, measured; targets stay where they are."""

from dataclasses import replace

import numpy as np
import pytest

from aneurysm.cache.config import InputConfig
from aneurysm.phantom.config import LooksConfig, PhantomWindowsConfig
from aneurysm.phantom.looks import (
    CHANGES,
    bias,
    blur,
    change_look,
    changed,
    coarse,
    gamma,
    grain,
    noise,
    quantise,
    sharpen,
    small_field,
    uneven_slices,
    window,
)
from aneurysm.phantom.windows import scan_windows

INPUT = InputConfig(image_size=96, n_slices=3)
SMALL = PhantomWindowsConfig(sizes=(128,), sacs=2, free_slabs=1)
SEEDS = range(40)


@pytest.fixture
def image() -> np.ndarray:
    """(96, 80, 5): grey with a dark half, a bright disc, and one slice unlike the others."""
    y, x = np.mgrid[:96, :80]
    plain = np.full((96, 80, 5), 0.4, np.float32)
    plain[:, :30] = 0.1
    plain[np.hypot(y - 50, x - 50) < 8] = 0.9
    plain[..., 4] *= 0.5
    return plain


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_keeps_shape_and_range_and_is_decided_by_its_random_numbers(name, image):
    before = image.copy()
    for strength in (0.3, 1.0, 2.0):
        found, again = (changed(image, CHANGES[name], strength, np.random.default_rng(3)) for _ in range(2))
        assert found.shape == image.shape and found.dtype == np.float32 and found.flags.c_contiguous
        assert found.min() >= 0 and found.max() <= 1 and np.isfinite(found).all()
        np.testing.assert_array_equal(found, again)
    np.testing.assert_array_equal(image, before)  # the image itself is left alone
    assert any(np.abs(changed(image, CHANGES[name], 1.0, np.random.default_rng(s)) - image).max() > 0.02 for s in SEEDS)


@pytest.mark.parametrize("name", CHANGES)
def test_strength_nought_changes_nothing(name, image):
    for seed in SEEDS:
        found = changed(image, CHANGES[name], 0.0, np.random.default_rng(seed))
        assert np.abs(found - image).max() <= (0.5 / 255 if name == "quantise" else 1e-5) + 1e-6


def test_noise_has_the_spread_that_is_said():
    flat = np.full((128, 128, 4), 0.5, np.float32)
    for change, sd in ((noise, 0.08), (grain, 0.07)):
        found = changed(flat, change, 0.5, np.random.default_rng(1))
        assert found.std() == pytest.approx(sd / 2, rel=0.1)
    white, soft = (changed(flat, change, 0.5, np.random.default_rng(1)) - 0.5 for change in (noise, grain))
    beside = [float((v[:, 1:] * v[:, :-1]).mean() / v.var()) for v in (white, soft)]
    assert abs(beside[0]) < 0.15 and beside[1] > 0.5  # neighbours are alike in grain alone


def test_rician_noise_lifts_what_is_dark():
    dark = np.zeros((64, 64, 3), np.float32)
    found = [noise(dark, 1.0, np.random.default_rng(seed)) for seed in SEEDS]
    rician = [v for v in found if v.min() >= 0]
    assert 5 < len(rician) < 35
    expected = 0.08 * np.sqrt(np.pi / 2)  # mean of a Rayleigh distribution
    assert np.mean(rician) == pytest.approx(expected, rel=0.02)


def test_blur_spreads_a_point_by_at_most_its_sigma_and_keeps_its_place():
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 1
    for seed in SEEDS:
        found = blur(point, 0.8, np.random.default_rng(seed))[..., 0]
        y, x = np.mgrid[:41, :41] - 20
        assert found.sum() == pytest.approx(1, abs=1e-4)
        assert abs((found * x).sum()) < 1e-3 and abs((found * y).sum()) < 1e-3
        spread = (found * x**2).sum(), (found * y**2).sum()
        assert max(spread) == pytest.approx((1.6 * 0.8) ** 2, rel=0.12)  # the kernel ends at 4 sigma


def test_a_hard_kernel_overshoots_at_edges_alone(image):
    found = sharpen(image, 1.0, np.random.default_rng(0))
    assert found[:, 30:33, 0].max() > 0.45 and found[:, 27:30, 0].min() < 0.08
    np.testing.assert_allclose(found[:30, 50:70, 0], 0.4, atol=1e-4)


def test_a_coarse_matrix_loses_what_is_fine():
    fine = np.zeros((96, 96, 2), np.float32)
    fine[::2, ::2] = 1
    kept = [changed(fine, coarse, 1.0, np.random.default_rng(seed)).std() / fine.std() for seed in SEEDS]
    assert max(kept) < 0.75 and min(kept) < 0.35


def test_grey_levels_are_counted(image):
    ramp = np.linspace(0, 1, 64 * 64 * 2, dtype=np.float32).reshape(64, 64, 2)
    for strength, levels in ((0, 256), (0.5, 64), (1, 16)):
        assert len(np.unique(quantise(ramp, strength, np.random.default_rng(0)))) == levels


def test_gamma_and_window_keep_the_order_of_values():
    ramp = np.linspace(0, 1, 48 * 48 * 2, dtype=np.float32).reshape(48, 48, 2)
    for change in (gamma, window):
        middles = []
        for seed in SEEDS:
            found = changed(ramp, change, 1.0, np.random.default_rng(seed)).ravel()
            assert (np.diff(found) >= -1e-6).all()
            middles.append(found[len(found) // 2])
        assert min(middles) < 0.45 and max(middles) > 0.55  # brighter and darker ones


def test_bias_is_smooth_and_bounded():
    flat = np.full((96, 96, 2), 0.3, np.float32)
    for seed in SEEDS:
        gain = bias(flat, 1.0, np.random.default_rng(seed)) / 0.3
        assert 0.49 < gain.min() < gain.max() < 2.01 and max(gain.max(), 1 / gain.min()) > 1.9
        assert np.abs(np.diff(np.log(gain), axis=0)).max() < 0.08


def test_uneven_slices_are_scaled_each_by_its_own_factor(image):
    factors = uneven_slices(image, 1.0, np.random.default_rng(5)) / image
    assert np.ptp(factors, axis=(0, 1)).max() < 1e-5 and np.ptp(factors[0, 0]) > 0.05


def test_a_small_field_is_empty_beyond_its_edge_and_keeps_the_middle(image):
    for seed in SEEDS:
        found = small_field(image, 1.0, np.random.default_rng(seed))
        assert ((found == image) | (found == 0)).all()
        np.testing.assert_array_equal(found[30:66, 24:56], image[30:66, 24:56])


def test_the_share_of_changed_images_is_that_of_the_settings(image):
    assert change_look(image, LooksConfig(share=0), np.random.default_rng(0)) is image
    rng = np.random.default_rng(0)
    n_changed = sum(change_look(image, LooksConfig(share=0.5, each=0.3), rng) is not image for _ in range(200))
    assert n_changed / 200 == pytest.approx(0.5 * (1 - 0.7 ** len(CHANGES)), abs=0.1)


@pytest.mark.parametrize("wrong", [dict(share=1.2), dict(each=-0.1), dict(strength=-1)])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"looks.{next(iter(wrong))}: expected .*found"):
        LooksConfig(**wrong)


def test_endless_windows_change_their_look_and_not_their_targets():
    plain = replace(SMALL, looks=LooksConfig(share=0))
    always = replace(SMALL, looks=LooksConfig(share=1, each=0.5))
    differ = 0
    for number in range(3):
        for own, other in zip(
            *(scan_windows(1_000_050, number, config, INPUT, 4) for config in (plain, always)), strict=True
        ):
            np.testing.assert_array_equal(own.sac, other.sac)
            np.testing.assert_array_equal(own.vessels, other.vessels)
            differ += np.abs(own.image - other.image).mean() > 0.01
    assert differ >= 5
