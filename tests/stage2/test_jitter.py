"""How a series is changed each time that stage 2 is trained on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aneurysm.stage2.dataset import augment, drawn_slices
from tests.stage2_series import ALL_INPUTS, STILL, described, tokens_of


def test_slices_are_thinned_as_far_as_they_may_be_and_from_any_first_one_on():
    depth_mm = np.arange(40)[::-1] * 1.5
    rng = np.random.default_rng(0)
    drawn = [drawn_slices(depth_mm, replace(STILL, thin_to_mm=5.0), rng) for _ in range(200)]
    assert {(int(kept[0]), int(kept[1] - kept[0])) for kept in drawn} == {(a, n) for n in (1, 2, 3) for a in range(n)}
    assert all(len(set(np.diff(kept))) == 1 and kept[-1] >= 40 - 3 for kept in drawn)


def test_slices_are_dropped_with_their_chance_and_one_always_stays():
    rng = np.random.default_rng(0)
    depth_mm = np.arange(50.0)[::-1]
    kept = [len(drawn_slices(depth_mm, replace(STILL, drop_p=0.2), rng)) for _ in range(400)]
    assert np.mean(kept) == pytest.approx(40, abs=0.6)
    assert len(drawn_slices(depth_mm, replace(STILL, drop_p=1.0), rng)) == 1
    assert drawn_slices(np.array([3.0]), replace(STILL, thin_to_mm=5.0), rng).tolist() == [0]


def test_distances_are_stretched_and_shifted_within_their_limits():
    tokens = tokens_of(described(0.0))
    rng = np.random.default_rng(0)
    drawn = [augment(tokens, replace(STILL, stretch=0.1, shift_mm=4.0), rng)["depth_mm"] for _ in range(300)]
    stretches = np.array([(depth[0] - depth[-1]) / 14 for depth in drawn])
    shifts = np.array([depth[-1] for depth in drawn]) - stretches
    for found, middle, limit in ((stretches, 1, 0.1), (shifts, 0, 4.0)):
        assert np.abs(found - middle).max() <= limit + 1e-5 and found.std() == pytest.approx(limit / 3**0.5, rel=0.1)


def test_noise_has_the_strength_that_is_asked_for_and_places_have_none():
    features = described(2.0, n_slices=600)
    features.features[0, :, ::2] = 4.0  # standard deviation 1
    tokens = tokens_of(features, config=ALL_INPUTS)
    noisy = augment(tokens, replace(STILL, feature_noise=0.3, logit_noise=0.5), np.random.default_rng(0))
    for name, sd in (("features", 0.3), ("logits", 0.5), ("heatmap_max", 0.5)):
        assert (noisy[name] - tokens[name]).std().item() == pytest.approx(sd, rel=0.05)
    assert torch.equal(noisy["peaks"], tokens["peaks"])


def test_a_feature_beyond_float16_does_not_drown_the_others_in_noise():
    features = described(2.0, n_slices=600)
    features.features[0, :, ::2] = 4.0  # standard deviation 1
    features.features[0, 7, 3] = np.inf
    tokens = tokens_of(features, config=ALL_INPUTS)
    noisy = augment(tokens, replace(STILL, feature_noise=0.3), np.random.default_rng(0))
    change = (noisy["features"] - tokens["features"]).flatten()
    finite = change.isfinite()
    assert finite.sum() == 600 * 6 - 1 and change[finite].std().item() == pytest.approx(0.3, rel=0.05)


def test_modality_and_plane_are_hidden_apart_from_each_other():
    tokens, rng = tokens_of(described(0.0)), np.random.default_rng(0)
    seen = [augment(tokens, replace(STILL, unknown_p=0.3), rng) for _ in range(600)]
    hidden = np.array([[int(t["modality"]) == 0, int(t["plane"]) == 0] for t in seen])
    assert hidden.mean(axis=0) == pytest.approx([0.3, 0.3], abs=0.06)
    assert hidden.all(axis=1).mean() == pytest.approx(0.09, abs=0.04)
