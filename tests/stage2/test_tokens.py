"""What stage 2 sees of a series: views, and whose features it is trained on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from aneurysm.cache.features import n_sampled_slices, write_features
from aneurysm.folds.targets import Localizers
from aneurysm.labels import LABELS, MIRROR
from aneurysm.paths import ModelPaths
from aneurysm.stage2.config import LossConfig, Stage2Config, TokensConfig
from aneurysm.stage2.dataset import SliceLocalizers, TrainingSeries, TrainingTable
from aneurysm.stage2.tokens import check_tokens, series_tokens, thinned
from tests.stage2_series import ALL_INPUTS, NUMBERS, STILL, described, tokens_of

UNMARKED = SliceLocalizers({}, frozenset())


@pytest.fixture
def made(tmp_path) -> tuple[pd.DataFrame, ModelPaths]:
    """Nine series in three folds; fold k's encoder says k + series number / 100, about every series."""
    series = pd.DataFrame({"SeriesInstanceUID": [f"s{i}" for i in range(9)], "fold": [i % 3 for i in range(9)],
                           "series_type": "CTA", "plane": "axial"})  # fmt: skip
    rng = np.random.default_rng(0)
    series[list(LABELS)] = rng.integers(0, 2, (9, 14))
    paths = ModelPaths(tmp_path, "encoder")
    for fold in range(3):
        for i in range(9):
            write_features(paths.features(fold) / f"s{i}.safetensors", described(fold + i / 100), "made up")
    return series, paths


def training_set(made, config: Stage2Config, fold: int = 1, marks: SliceLocalizers = UNMARKED) -> TrainingSeries:
    return TrainingSeries(TrainingTable.without_fold(*made, fold, config.tokens), config, marks)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_tokens_by_hand():
    tokens = tokens_of(described(3.0), config=ALL_INPUTS)
    assert tokens["depth_mm"].tolist() == [15, 13, 11, 9, 7, 5, 3, 1] and tokens["mask"].all()
    assert {name: tuple(tokens[name].shape) for name in ("features", "logits", "heatmap_max", "peaks")} == {
        "features": (8, 6), "logits": (8, 14), "heatmap_max": (8, 14), "peaks": (8, 28),
    }  # fmt: skip
    assert tokens["modality"] == 2 and tokens["plane"] == 1
    assert (tokens_of(described(3.0), "mirror")["logits"] == 3.5).all()


@pytest.mark.parametrize("unknown", [None, "unknown", float("nan")])
def test_what_is_not_known_of_a_series_is_unknown(unknown):
    tokens = series_tokens(described(0.0), "original", unknown, unknown, NUMBERS)
    assert tokens["modality"] == 0 and tokens["plane"] == 0


def test_only_the_mirrored_view_of_sagittal_series_has_its_slices_in_reverse():
    features = described(0.0)
    axial, coronal, sagittal = (tokens_of(features, "mirror", plane) for plane in ("axial", "coronal", "sagittal"))
    forward, backward = [15, 13, 11, 9, 7, 5, 3, 1], [1, 3, 5, 7, 9, 11, 13, 15]
    assert axial["depth_mm"].tolist() == coronal["depth_mm"].tolist() == forward
    assert sagittal["depth_mm"].tolist() == backward
    assert tokens_of(features, "original", "sagittal")["depth_mm"].tolist() == forward


def test_a_long_series_is_thinned_evenly_and_keeps_its_ends():
    assert thinned(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert thinned(9, 5).tolist() == [0, 2, 4, 6, 8]
    kept = thinned(3000, 2048)
    assert len(set(kept)) == 2048 and kept[[0, -1]].tolist() == [0, 2999] and set(np.diff(kept)) == {1, 2}
    tokens = tokens_of(described(0.0, n_slices=9), config=replace(NUMBERS, max_slices=5))
    assert tokens["depth_mm"].tolist() == [17, 13, 9, 5, 1] and len(tokens["logits"]) == len(tokens["mask"]) == 5


def test_features_of_different_encoders_cannot_be_trained_on_together():
    check_tokens(TokensConfig())
    check_tokens(ALL_INPUTS)
    assert TokensConfig().cross_fitted  # what stage 1 was trained on, it is too sure of
    with pytest.raises(ValueError, match="cross_fitted: features of different encoders"):
        check_tokens(replace(ALL_INPUTS, cross_fitted=True))
    with pytest.raises(ValueError, match="expected at least one of features"):
        check_tokens(TokensConfig(inputs=()))


def test_the_held_out_fold_is_not_trained_on_and_its_encoder_describes_the_others(made):
    training = training_set(made, Stage2Config(tokens=NUMBERS, jitter=STILL), fold=1)
    output = [training[(0, i)]["logits"][0, 0].item() for i in range(len(training))]
    assert output == pytest.approx([1 + i / 100 for i in (0, 2, 3, 5, 6, 8)], abs=2e-3)


def test_cross_fitted_each_series_is_described_by_the_encoder_of_its_own_fold(made):
    config = Stage2Config(tokens=replace(NUMBERS, cross_fitted=True), jitter=STILL)
    training = training_set(made, config, fold=1)
    output = [training[(0, i)]["logits"][0, 0].item() for i in range(len(training))]
    assert output == pytest.approx([i % 3 + i / 100 for i in (0, 2, 3, 5, 6, 8)], abs=2e-3)


def test_cross_fitted_needs_the_own_series_of_each_fold_alone(made):
    series, paths = made
    for fold in range(3):
        for i in range(9):
            if i % 3 != fold:
                (paths.features(fold) / f"s{i}.safetensors").unlink()
    assert len(TrainingTable.without_fold(series, paths, 1, replace(NUMBERS, cross_fitted=True)).series) == 6
    with pytest.raises(ValueError, match=r"fold-1/features: expected features .* --own_fold false"):
        TrainingTable.without_fold(series, paths, 1, NUMBERS)


def test_series_without_features_are_left_out_and_counted(made):
    series, paths = made
    (paths.features(1) / "s0.safetensors").unlink()
    (paths.features(1) / "s2.safetensors").write_bytes(b"no such format")
    assert n_sampled_slices(paths.features(1) / "s3.safetensors") == 8
    table = TrainingTable.without_fold(series, paths, 1, replace(NUMBERS, max_slices=5))
    assert table.series.SeriesInstanceUID.tolist() == ["s3", "s5", "s6", "s8"] and table.n_missing == 2
    assert table.text(replace(NUMBERS, max_slices=5)) == (
        "4 series of 8 to 8 slices, 4 of them thinned to 5; 2 series without features left out"
    )


def test_the_sampling_of_the_features_trained_on_is_told_and_must_be_one(made):
    series, paths = made
    for i in range(9):
        write_features(paths.features(1) / f"s{i}.safetensors", replace(described(0), slice_spacing_mm=2.0), "made up")
    assert TrainingTable.without_fold(series, paths, 1, NUMBERS).sampling == {
        "views": ["original", "mirror"],
        "slice_spacing_mm": 2.0,
    }
    write_features(paths.features(1) / "s5.safetensors", replace(described(0), slice_spacing_mm=3.0), "made up")
    with pytest.raises(ValueError, match=r"s0.safetensors: expected features sampled alike, .*s5.safetensors"):
        _ = TrainingTable.without_fold(series, paths, 1, NUMBERS).sampling


def test_prevalences_are_those_of_the_series_trained_on(made):
    table = TrainingTable.without_fold(*made, 1, NUMBERS)
    positives = sum(made[0][LABELS[4]][i] for i in (0, 2, 3, 5, 6, 8))
    assert table.prevalence[4] == pytest.approx((positives + 0.5) / 7)


def test_the_mirrored_view_comes_with_mirrored_labels(made):
    plain, mirrored = (
        training_set(made, Stage2Config(tokens=NUMBERS, jitter=replace(STILL, mirror_p=p))) for p in (0.0, 1.0)
    )
    for i in range(6):
        original, other = plain[(0, i)], mirrored[(0, i)]
        assert (other["logits"] == original["logits"] + 0.5).all()
        assert other["labels"].tolist() == [original["labels"][MIRROR[k]].item() for k in range(14)]


def test_slices_near_a_localizer_show_it_those_far_from_all_show_none_and_nothing_is_said_of_the_others(made):
    """Eight slices from 0 to 14 mm; localizers at 1 mm (left infraclinoid) and 3.9 mm (basilar tip) of s0."""
    carotid, tip = "Infraclinoid Internal Carotid Artery", LABELS.index("Basilar Tip")
    left, right = (LABELS.index(f"{side} {carotid}") for side in ("Left", "Right"))
    here = Localizers(np.array([1.0, 3.9]), np.zeros((2, 2)), np.array([left, tip]))
    marks = SliceLocalizers({"s0": here}, frozenset({"s2"}))
    loss = LossConfig(slice_mm=2.0, clear_mm=6.0)
    for mirror_p, side in ((0.0, left), (1.0, right)):
        config = Stage2Config(tokens=NUMBERS, jitter=replace(STILL, mirror_p=mirror_p), loss=loss)
        training = training_set(made, config, marks=marks)
        found = {uid: training[(0, i)]["slice_labels"] for i, uid in enumerate(training.uids)}
        expected = torch.zeros(8, 14)
        expected[:2, side] = expected[1:3, tip] = expected[:3, 13] = 1  # at 0 and 2 mm, at 2 and 4 mm
        expected[3:5] = torch.nan  # 6 and 8 mm are 2.1 and 4.1 mm from the second
        assert torch.equal(torch.nan_to_num(found["s0"], 9.0), torch.nan_to_num(expected, 9.0))
        assert found["s2"].isnan().all() and (found["s3"] == 0).all()
    thin = replace(config, tokens=replace(NUMBERS, max_slices=3))  # the first, the fifth and the last
    assert training_set(made, thin, marks=marks)[(0, 0)]["slice_labels"][:, 13].nan_to_num(9.0).tolist() == [1, 9, 0]


def test_a_series_without_mirrored_view_is_seen_as_it_is(made):
    series, paths = made
    write_features(paths.features(1) / "s0.safetensors", described(4.0, views=("original",)), "made up")
    training = training_set(made, Stage2Config(tokens=NUMBERS, jitter=replace(STILL, mirror_p=1.0)))
    assert (training[(0, 0)]["logits"] == 4).all()
    assert training[(0, 0)]["labels"].tolist() == series[list(LABELS)].iloc[0].tolist()


def test_jitter_depends_on_epoch_sample_and_seed_alone(made):
    config = Stage2Config()
    first, again = training_set(made, config), training_set(made, config)
    other = training_set(made, replace(config, training=replace(config.training, seed=1)))
    expected = first[(3, 2)]
    _ = again[(0, 5)], again[(3, 1)]
    assert equal(expected, again[(3, 2)])
    assert not equal(expected, first[(4, 2)]) and not equal(expected, other[(3, 2)])


def test_damage_in_what_was_stored_leaves_finite_logits_and_what_is_not_there_stays_nan():
    features = described(1.0)
    features.logits[0, 2, 3], features.logits[0, 3, 3], features.heatmap_max[:] = np.nan, np.inf, np.nan
    tokens = tokens_of(features)
    assert tokens["logits"][2:4, 3].tolist() == [0, 20] and tokens["heatmap_max"].isnan().all()
