"""What stage 1 is trained on and held to, and what is said about it: nothing of a held-out fold is ever seen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from aneurysm.cache.cache import Cache, open_cache
from aneurysm.folds.tables import read_folds, read_spots
from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.paths import ModelPaths, trained_folds
from aneurysm.stage1 import training as run_module
from aneurysm.stage1.config import InputConfig, ModelConfig, SamplingConfig, Stage1Config
from aneurysm.stage1.dataset import TrainingWindows
from aneurysm.stage1.endless import MixedWindows
from aneurysm.stage1.evaluate import (
    Evaluation,
    predict_fold,
    series_froc,
    series_text,
    windows_text,
    with_pixel_mm,
)
from aneurysm.stage1.fresh import FreshSeries
from aneurysm.stage1.predict import WindowPredictions
from aneurysm.stage1.training import HeldOut, outside_text, train_fold
from aneurysm.training.config import InferenceConfig, TrainingConfig
from aneurysm.training.distributed import DistContext
from tests.stage1_cache import CACHED_MM, HEADS, NEGATIVE_SLICES, make_spots, spot, write_data

ALONE = DistContext(0, 1, torch.device("cpu"))
CONFIG = Stage1Config(
    "convnext_atto", InputConfig(image_size=32), ModelConfig(neck_width=8), training=TrainingConfig(workers=0)
)
WHOLE = Stage1Config(
    input=InputConfig(crop=(0, 1, 0, 1), crop_upright=(0, 1, 0, 1)), sampling=SamplingConfig(label_mm=3.0)
)
BASILAR, ACOM = LOCATIONS.index("Basilar Tip"), LOCATIONS.index("Anterior Communicating Artery")
TWO_IN_ONE_SLICE = make_spots(
    [
        spot("a", 0, 9, 9.0, "axial"),
        spot("a", 0, 4, 4.0, "axial", x=100.0, y=90.0, location="Basilar Tip"),
        spot("a", 0, 4, 4.0, "axial", x=300.0, y=200.0, location="Anterior Communicating Artery"),
        spot("b", 0, 2, 2.0, "sagittal", x=50.0, y=60.0, location="Basilar Tip"),
    ]
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return open_cache(folder)


@pytest.fixture
def spots(cache) -> pd.DataFrame:
    return read_spots(cache.paths.root, 2)


def series_of_fold(fold: int) -> set[str]:
    return {uid for uid, own, *_ in HEADS if own == fold and uid != "missing"}


@pytest.mark.parametrize("fold", [0, 1, None])
def test_no_window_of_the_held_out_fold_is_trained_on_and_no_other_is_held_to(cache, spots, monkeypatch, fold, capsys):
    read: list[str] = []
    window = Cache.window
    monkeypatch.setattr(Cache, "window", lambda self, uid, indices: read.append(uid) or window(self, uid, indices))
    seen = {}

    def fit(model, train_set, loss, evaluate, *_):
        for epoch in range(3):
            for i in range(len(train_set)):
                train_set[epoch, i]
        seen["trained"] = {*read}
        read.clear()
        seen["scores"] = evaluate(model.eval())
        seen["held out"] = {*read}

    monkeypatch.setattr(run_module, "fit", fit)
    hard = {uid: np.array([7]) for uid in series_of_fold(0) | series_of_fold(1)}
    train_fold(cache, spots, hard, CONFIG, fold, "none", cache.paths.root, ALONE, resume=False)
    everything = series_of_fold(0) | series_of_fold(1)
    assert seen["held out"] == (set() if fold is None else series_of_fold(fold))
    assert seen["trained"] == everything - seen["held out"]
    assert set(seen["scores"]) == (set() if fold is None else {"score", "auc_present"})
    # A positive four times, three negatives a series; each series has negatives, and a hard one.
    n = len(seen["trained"])
    n_positive = sum(location is not None for uid, *_, location, _, _, _ in HEADS if uid in seen["trained"])
    output = capsys.readouterr().out
    assert f"random weights; {4 * n_positive + 3 * n} windows an epoch, {n} series with hard negatives" in output


def test_each_slice_with_a_spot_is_one_window_with_all_its_labels():
    held_out = HeldOut.from_spots(TWO_IN_ONE_SLICE, WHOLE)
    assert held_out.places[["SeriesInstanceUID", "slice"]].to_numpy().tolist() == [["a", 9], ["a", 4], ["b", 2]]
    assert [np.flatnonzero(row).tolist() for row in held_out.truth] == [[], [ACOM, BASILAR, 13], [BASILAR, 13]]


def test_localizers_outside_the_crop_give_no_label_and_no_window_and_are_counted():
    # Axial x from 150 to 450: the ACom's 300 is shown, the basilar tip's 100 is not; sagittal x from 100 on: 50 is not.
    narrow = replace(WHOLE, input=InputConfig(crop=(150 / 512, 450 / 512, 0, 1), crop_upright=(100 / 512, 1, 0, 1)))
    held_out = HeldOut.from_spots(TWO_IN_ONE_SLICE, narrow)
    assert held_out.places[["SeriesInstanceUID", "slice"]].to_numpy().tolist() == [["a", 9], ["a", 4]]
    assert [np.flatnonzero(row).tolist() for row in held_out.truth] == [[], [ACOM, 13]]
    assert held_out.peaks(predictions(2), TWO_IN_ONE_SLICE, narrow.input).location.tolist() == [LOCATIONS[ACOM]]
    assert outside_text(TWO_IN_ONE_SLICE, narrow.input).startswith("2 of 3 localizers lie outside the crop")
    assert outside_text(TWO_IN_ONE_SLICE, WHOLE.input).startswith("0 of 3 localizers")


def predictions(n: int, probability: np.ndarray | None = None) -> WindowPredictions:
    """The peak of location k in window i lies at input pixel (i, k)."""
    xy = np.stack(np.meshgrid(np.arange(n), np.arange(13), indexing="ij"), axis=-1).astype(float)
    return WindowPredictions(np.zeros((n, 14)) if probability is None else probability, np.ones((n, 13)), xy)


def test_each_localizer_is_held_against_the_peak_of_its_own_location_in_its_own_window():
    held_out = HeldOut.from_spots(TWO_IN_ONE_SLICE, WHOLE)
    config = InputConfig(image_size=64, crop=(0.125, 0.875, 0.125, 0.625), crop_upright=(0.0, 1.0, 0.0, 1.0))
    peaks = held_out.peaks(predictions(3), TWO_IN_ONE_SLICE, config)
    assert peaks[["x", "y"]].to_numpy().tolist() == [[100, 90], [300, 200], [50, 60]]
    # From (64, 64) on, 6 x 4 cached pixels an input pixel in axial windows; 8 x 8 from (0, 0) on in the sagittal one.
    expected = [[6 * 1 + 2.5 + 64, 4 * BASILAR + 1.5 + 64], [6 * 1 + 2.5 + 64, 4 * ACOM + 1.5 + 64],
                [8 * 2 + 3.5, 8 * BASILAR + 3.5]]  # fmt: skip
    np.testing.assert_allclose(peaks[["peak_x", "peak_y"]], expected)


def test_the_scores_are_those_of_the_windows():
    held_out = HeldOut.from_spots(TWO_IN_ONE_SLICE, WHOLE)
    probability = np.zeros((3, 14))
    probability[:, 13] = [0.5, 0.9, 0.1]  # one of two positives above the negative
    probability[:, BASILAR], probability[:, ACOM] = [0.1, 0.2, 0.3], [0.9, 0.1, 0.2]
    scores = held_out.scores(predictions(3, probability))
    assert scores == {"score": 0.5 * 0.5 + 0.5 * (1.0 + 0.0) / 2, "auc_present": 0.5}
    table = held_out.table(predictions(3, probability))
    assert table[list(LABELS)].to_numpy().tolist() == probability.tolist()
    assert table.columns[:6].tolist() == ["SeriesInstanceUID", "fold", "slice", "position_mm", "modality", "plane"]


def line_of(text: str, first: str) -> list[str]:
    """The words after the first ones of the line that begins with them."""
    return next(line for line in text.splitlines() if line.startswith(first))[len(first) :].split()


def test_windows_of_all_folds_are_told_in_one_table_and_localisation_where_there_are_heatmaps(cache, spots):
    evaluation = []
    for fold in (0, 1):
        own = spots[spots.fold == fold]
        held_out = HeldOut.from_spots(own, WHOLE)
        messages = predictions(len(held_out.truth), held_out.truth.astype(float))
        positives = own[own.kind == "positive"]
        peaks = positives.assign(peak_x=positives.x + 10 * (1 + fold * 2.6), peak_y=positives.y)
        evaluation.append(Evaluation(held_out.table(messages), held_out.truth, with_pixel_mm(peaks, cache)))
    text = windows_text(evaluation)
    n_windows = 4 + sum(map(len, NEGATIVE_SLICES.values()))
    assert text.startswith(f"windows of spots, fold 0, 1\n{n_windows} cases")
    assert line_of(text, "Aneurysm Present")[:2] == ["4", "1.000"] and line_of(text, "Basilar Tip")[0] == "2"
    # Two peaks lie 10 pixels, or 4 mm, from their localizers, and two 36 pixels, or 14.4 mm.
    heading, *_ = shares = text.split("\n\n")[-1].splitlines()
    assert heading == "peak of the location's heatmap, against its localizer"
    assert line_of("\n".join(shares[2:]), "all") == ["4", "0.5", "0.5", "9.2"]
    assert windows_text([Evaluation(j.table, j.truth, None) for j in evaluation]).endswith("\n\nno heatmaps")


def told_slices() -> pd.DataFrame:
    """Answers to five slices of each cached series of HEADS; each aneurysm shows in its own slice alone.

    The other series are a little suspicious in every slice, which makes their means the higher ones.
    """
    rows = []
    for uid, fold, plane, _, location, index, x, y in HEADS[:-1]:
        for i in (2, 3, 4, 11, 12):
            hit = i == index
            row = {"SeriesInstanceUID": uid, "fold": fold, "slice": i, "position_mm": 100 + 3.0 * i, "plane": plane}
            row |= {"cached_col_mm": CACHED_MM, "cached_row_mm": CACHED_MM}
            row |= dict.fromkeys(LABELS, 0.1 if location else 0.3)
            row |= {location: 0.9, LABELS[-1]: 0.5 if uid == "s1" else 0.9} if hit else {}
            for name in LABELS:
                heatmap, peak = (0.2 if i == 2 else 0.01), (20.0, 20.0)
                if hit and name in (location, LABELS[-1]):
                    heatmap, peak = 0.8, (x + (30 if uid == "s5" else 5), y)  # 12 mm and 2 mm away
                row |= {f"{name} heatmap_max": heatmap, f"{name} peak_x": peak[0], f"{name} peak_y": peak[1]}
            rows.append(row)
    return pd.DataFrame(rows)


def test_a_series_is_as_suspicious_as_its_most_suspicious_slice_and_a_missing_one_is_average(cache, spots):
    text = series_text(told_slices(), read_folds(cache.paths.root, 2), spots, cache)
    assert text.startswith("maximum over the slices of a series, fold 0, 1; 1 series not in the cache\n7 cases\n")
    # Positives 0.9, 0.9, 0.9 and 0.5, negatives 0.3 and 0.3; the missing one has their mean, 0.633: 11 of 12 pairs.
    assert line_of(text, "Aneurysm Present")[:2] == ["4", "0.917"]
    assert line_of(text, "Basilar Tip")[:2] == ["2", "1.000"]
    without = series_text(told_slices().assign(**{f"{name} heatmap_max": np.nan for name in LABELS}),
                          read_folds(cache.paths.root, 2), spots, cache)  # fmt: skip
    assert "FROC" in text and "FROC" not in without


def test_the_froc_counts_peaks_of_whole_series(cache, spots):
    found = series_froc(told_slices(), spots, 7, cache)
    # At 0.8 three of four localizers, and one peak that lies too far off. At 0.2 one false peak more in each of the
    # six series: those of the slices 3 and 6 mm away are suppressed. At 0.01 another six.
    assert found[["threshold", "found"]].to_numpy().tolist() == [[0.8, 3], [0.2, 3], [0.01, 3], [0.01, 3]]
    np.testing.assert_allclose(found.reached, [1 / 7, 7 / 7, 13 / 7, 13 / 7])
    assert set(found.sensitivity) == {0.75}


def test_folds_without_a_model_are_left_out_and_none_at_all_is_an_error(tmp_path):
    paths = ModelPaths(tmp_path, "convnext_atto")
    with pytest.raises(ValueError, match=r"convnext_atto: expected fold-<k>/last.pth, found none"):
        trained_folds([paths], [0, 1], "train_stage1.py")
    paths.fold(1).mkdir(parents=True)
    paths.stage1(1).touch()
    assert trained_folds([paths], [0, 1], "train_stage1.py") == [1]


def test_a_fold_without_any_cached_series_is_named(cache, tmp_path):
    series = read_folds(cache.paths.root, 2)
    series.loc[series.fold == 1, "n_slices"] = np.nan
    with pytest.raises(ValueError, match="fold 1: expected series in the cache, found none; has preprocess_data"):
        predict_fold(cache, series, ModelPaths(tmp_path, "convnext_atto"), 1, 0, InferenceConfig(), ALONE)


def test_phantoms_are_a_share_of_the_windows_and_come_in_order_at_random_places(cache, spots):
    config = replace(
        WHOLE, input=InputConfig(image_size=72), heads=ModelConfig(neck_width=8), sampling=SamplingConfig(cut_size=64)
    )
    own = TrainingWindows(cache, spots, {}, config)
    mixed = MixedWindows(own, config, 0.25)
    n_own, n_all = len(own), len(mixed)
    assert n_all - n_own == round(n_own / 3)
    orders = [mixed.order(np.random.default_rng(seed)) for seed in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(n_all))
        assert (np.diff(order[order >= n_own]) == 1).all() and (np.diff(order[order < n_own]) < 0).any()
    assert (orders[0] != orders[1]).any()
    assert mixed.name_of((1, 0)) == own.name_of((1, 0))
    assert mixed.name_of((1, n_own)) == f"phantom sample {n_all - n_own} of seed 2000000"
    first, phantom = mixed[0, 0], mixed[0, n_own]
    assert {name: tensor.shape for name, tensor in first.items()} == {n: t.shape for n, t in phantom.items()}
    with pytest.raises(ValueError, match="phantom_share 1.0: expected a number above 0 and below 1"):
        MixedWindows(own, config, 1.0)


def test_an_own_peak_is_above_the_highest_of_negative_series_in_the_share_of_pairs_counted_by_hand(cache, spots):
    uids, present = ["s0", "s1", "s2", "s3", "s4", "s5"], [1, 1, 0, 0, 1, 1]
    series = pd.DataFrame({"SeriesInstanceUID": uids, "n_slices": 15, "Aneurysm Present": present})
    # Three localizers have a peak of 0.8 at 2 mm, one at 12 mm; both negative series peak at 0.2: 6 of 8 pairs.
    assert FreshSeries(cache, series, spots).own_peak_above(told_slices()) == 0.75


def test_scores_of_a_curve_are_those_of_spots_and_series(cache, spots):
    class Brightest(torch.nn.Module):
        """Says of everything how bright the middle slice is."""

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            level = images[:, 1].mean(dim=(1, 2))
            maps = torch.nn.functional.avg_pool2d(images[:, 1:2], 4) * 8 - 6
            return {"logits": level[:, None].repeat(1, 14), "heatmap": maps.repeat(1, 14, 1, 1), "aneurysm_map": maps}

    config = Stage1Config(input=InputConfig(image_size=64, crop=(0, 1, 0, 1), crop_upright=(0, 1, 0, 1)))
    inference = InferenceConfig(batch_size=8, workers=0)
    fresh = FreshSeries.read(cache.paths.root, 2)
    scores = fresh.scores(Brightest(), config, ALONE, inference, slice_spacing_mm=0)
    names = [f"{kind}_{of}" for kind in ("map", "logits") for of in ("spots", "series", "locations", "score")]
    assert set(scores) == {*names, "found_at_1", "found_at_4", "own_peak_above"}
    assert all(0 <= value <= 1 for value in scores.values())
