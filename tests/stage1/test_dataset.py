"""Training windows: what is drawn how often, that a draw depends on seed, epoch and number alone, and its targets."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from aneurysm.cache.cache import Cache, open_cache
from aneurysm.cache.windows import crop_box, read_window
from aneurysm.dicom.mapping import SIZE
from aneurysm.labels import LABELS
from aneurysm.stage1.config import InputConfig, ModelConfig, SamplingConfig, Stage1Config
from aneurysm.stage1.dataset import EvalWindows, TrainingWindows
from tests.stage1_cache import make_spots, spot, write_series
from tests.stage1_samples import NOTHING

cv2.setNumThreads(1)

N_SLICES, CODE = 24, 128  # slice i of the k-th series is filled with (1 + 24 k + i) / 128
LABEL = {"x": 256.0, "y": 200.0, "location": "Basilar Tip"}
SPOTS = make_spots(
    [
        spot("a", 0, 8, 8.0, "axial", **LABEL),
        spot("a", 0, 8, 8.0, "axial", **LABEL | {"location": "Anterior Communicating Artery"}),
        spot("a", 0, 20, 20.0, "axial"),
        spot("b", 1, 12, 12.0, "sagittal", **LABEL),
        spot("c", 1, 5, 5.0, "axial"),
        spot("c", 1, 12, 12.0, "axial"),
        spot("c", 1, 18, 18.0, "axial"),
    ]
)
PLAIN = Stage1Config(
    input=InputConfig(image_size=32, crop=(0.4, 0.6, 0.3, 0.5), crop_upright=(0.4, 0.6, 0.3, 0.5)),  # small is quick
    heads=ModelConfig(heatmap_stride=16),
    sampling=SamplingConfig(label_mm=3.0, shift_mm=2.5, positive_repeats=3, negatives_per_series=2, mirror_p=0),
    augment=NOTHING,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    data_dir = tmp_path_factory.mktemp("coded")
    for number, (uid, plane) in enumerate((("a", "axial"), ("b", "sagittal"), ("c", "axial"))):
        values = (1 + N_SLICES * number + np.arange(N_SLICES)) / CODE
        write_series(data_dir, uid, np.broadcast_to(values[:, None, None], (N_SLICES, SIZE, SIZE)),
                     np.arange(N_SLICES), plane)  # fmt: skip
    return open_cache(data_dir)


def decode(item: dict[str, torch.Tensor], channel: int = 1) -> tuple[str, int]:
    """Series and slice that a channel of a window shows."""
    series, index = divmod(round(item["image"][channel].mean().item() * CODE) - 1, N_SLICES)
    return "abc"[series], index


def sampled(config: Stage1Config, **changes) -> Stage1Config:
    return replace(config, sampling=replace(config.sampling, **changes))


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_an_epoch_has_each_positive_slice_and_negatives_of_each_series_as_often_as_asked_for(cache):
    windows = TrainingWindows(cache, SPOTS, {}, sampled(PLAIN, shift_mm=0))
    seen = [decode(windows[0, i]) for i in range(len(windows))]
    # Slices a-8 and b-12 three times each, though a-8 has two localizers; two negatives of a and two of c.
    assert len(windows) == 3 * 2 + 2 * 2
    assert sorted(seen[:6]) == [("a", 8)] * 3 + [("b", 12)] * 3
    assert sorted(uid for uid, _ in seen[6:]) == ["a", "a", "c", "c"]
    assert {decode(windows[epoch, i]) for epoch in range(12) for i in range(6, 10)} == {
        ("a", 20), ("c", 5), ("c", 12), ("c", 18),
    }  # fmt: skip


def test_a_window_has_only_the_labels_of_localizers_that_its_crop_shows(cache):
    # The crop shows x from 205 to 307: of two localizers in one slice that at 256, and the spot at 400 is never drawn.
    beside = [spot("a", 0, 8, 8.0, "axial", **LABEL | {"x": 400.0, "location": "Left Middle Cerebral Artery"}),
              spot("b", 1, 12, 12.0, "sagittal", **LABEL | {"x": 400.0})]  # fmt: skip
    spots = pd.concat([SPOTS[(SPOTS.SeriesInstanceUID != "b") | (SPOTS.kind == "negative")], make_spots(beside)])
    windows = TrainingWindows(cache, spots, {}, sampled(PLAIN, shift_mm=0))
    assert len(windows) == 3 * 1 + 2 * 2  # the slice of a, and no longer that of b
    assert [LABELS[k] for k in windows[0, 0]["labels"].nonzero()[:, 0].tolist()] == [
        "Anterior Communicating Artery", "Basilar Tip", "Aneurysm Present",
    ]  # fmt: skip
    # Shifted by a tenth of the image to the right, the crop shows the one at 330 as well.
    beyond = LABEL | {"x": 330.0, "location": "Other Posterior Circulation"}
    near = make_spots([spot("a", 0, 8, 8.0, "axial", **LABEL), spot("a", 0, 8, 8.0, "axial", **beyond)])
    windows = TrainingWindows(cache, near, {}, sampled(PLAIN, shift_mm=0, crop_shift=0.1))
    labels = {tuple(windows[epoch, 0]["labels"].nonzero()[:, 0].tolist()) for epoch in range(60)}
    basilar, other = LABELS.index("Basilar Tip"), LABELS.index("Other Posterior Circulation")
    one, both = (basilar, 13), (basilar, other, 13)
    assert {one, both} <= labels <= {one, both, ()}  # shifted far down it shows neither


def test_each_item_is_called_by_the_series_that_it_shows(cache):
    windows = TrainingWindows(cache, SPOTS, {"c": np.array([3])}, PLAIN)
    keys = [(epoch, i) for epoch in range(2) for i in range(len(windows))]
    assert [windows.name_of(key) for key in keys] == [decode(windows[key])[0] for key in keys]


def test_an_item_depends_on_seed_epoch_and_number_alone(cache):
    config = Stage1Config(input=InputConfig(image_size=64), sampling=PLAIN.sampling)  # all changes switched on
    windows, keys = TrainingWindows(cache, SPOTS, {}, config), [(e, i) for e in (0, 1) for i in range(10)]
    forth = {key: windows[key] for key in keys}
    back = {key: windows[key] for key in reversed(keys)}
    elsewhere = pickle.loads(pickle.dumps(windows))  # as a worker that is not a fork has it
    for key in keys:
        assert equal(forth[key], back[key]) and equal(forth[key], elsewhere[key]), key
    assert not any(equal(forth[0, i], forth[1, i]) for i in range(10))
    assert not equal(forth[0, 0], forth[0, 2])  # the same spot in the same epoch
    other_seed = TrainingWindows(cache, SPOTS, {}, replace(config, training=replace(config.training, seed=1)))
    assert not equal(forth[0, 0], other_seed[0, 0])


def test_a_shift_keeps_the_label_and_is_drawn_alike_for_positives_and_negatives(cache):
    spots = SPOTS[~((SPOTS.SeriesInstanceUID == "c") & (SPOTS.slice != 12))]  # one negative slice a series
    windows = TrainingWindows(cache, spots, {}, PLAIN)  # slices 1 mm apart, a shift of at most 2.5 mm
    both = {"Basilar Tip", "Anterior Communicating Artery", "Aneurysm Present"}
    expected = {"a": both, "b": both - {"Anterior Communicating Artery"}}
    shifts = {"positive": [], "negative": []}
    for epoch, i in np.ndindex(60, 10):
        item = windows[epoch, i]
        uid, index = decode(item)
        labels = {LABELS[k] for k in item["labels"].nonzero()[:, 0].tolist()}
        kind = "positive" if i < 6 else "negative"
        assert labels == (expected[uid] if kind == "positive" else set())
        shifts[kind].append(index - ({"a": 8, "b": 12} if kind == "positive" else {"a": 20, "c": 12})[uid])
    for kind, found in shifts.items():
        share = np.bincount(np.array(found) + 2, minlength=5) / len(found)
        # From -2.5 to 2.5 evenly, each rounded to the nearest slice: a fifth each.
        assert len(share) == 5 and np.abs(share - 0.2).max() < 0.08, (kind, share)


def test_a_shift_never_goes_beyond_its_limit_where_slices_are_thick(tmp_path):
    filled = np.broadcast_to((1 + np.arange(N_SLICES))[:, None, None] / CODE, (N_SLICES, SIZE, SIZE))
    write_series(tmp_path, "a", filled, 4.0 * np.arange(N_SLICES), "axial")
    spots = make_spots([spot("a", 0, 8, 32.0, "axial", **LABEL)])
    windows = TrainingWindows(open_cache(tmp_path), spots, {}, PLAIN)
    assert {decode(windows[epoch, 0]) for epoch in range(40)} == {("a", 8)}  # the next slice lies 4 mm away


def test_neighbours_are_drawn_from_their_range(cache):
    windows = TrainingWindows(cache, SPOTS, {}, sampled(PLAIN, shift_mm=0, neighbour_range_mm=(1.6, 3.4)))
    pairs = {tuple(decode(windows[epoch, 0], channel)[1] for channel in (0, 2)) for epoch in range(60)}
    assert pairs == {(6, 10), (5, 11)}  # 2 or 3 slices below and above slice 8, the same on both sides


def test_hard_negatives_are_drawn_with_their_chance_and_only_where_they_are_known(cache):
    hard = {"c": np.array([1, 2]), "b": np.array([3]), "elsewhere": np.array([10**6])}

    def drawn(hard_p: float, epochs: int) -> list[tuple[str, int]]:
        windows = TrainingWindows(cache, SPOTS, hard, sampled(PLAIN, hard_p=hard_p, shift_mm=0))
        return [decode(windows[epoch, i]) for epoch in range(epochs) for i in range(len(windows))]

    negatives = {("a", 20), ("c", 5), ("c", 12), ("c", 18)}
    positives = {("a", 8), ("b", 12)}
    assert set(drawn(0.0, 12)) == negatives | positives
    assert set(drawn(1.0, 12)) == {("a", 20), ("c", 1), ("c", 2)} | positives  # b has no negatives: it stays so
    own = [index for uid, index in drawn(0.5, 30) if uid == "c"]
    assert len(own) == 60 and 20 < sum(index in (1, 2) for index in own) < 40


def test_a_hard_negative_beyond_its_series_is_refused_before_training(cache):
    with pytest.raises(ValueError, match="series c: expected slices below 24, found 24"):
        TrainingWindows(cache, SPOTS, {"c": np.array([3, 24])}, PLAIN)


def test_a_shift_beyond_label_mm_is_refused_since_positives_would_lose_their_label(cache):
    with pytest.raises(ValueError, match="shift_mm 3.5: expected at most label_mm, 3.0"):
        TrainingWindows(cache, SPOTS, {}, sampled(PLAIN, shift_mm=3.5))


@pytest.mark.parametrize("cut_size", [24, 8, -16])
def test_a_part_that_is_no_multiple_of_heatmap_pixels_is_refused_since_maps_and_targets_would_not_meet(cache, cut_size):
    with pytest.raises(ValueError, match=f"cut_size {cut_size}: expected 0 or a multiple of heatmap_stride, 16"):
        TrainingWindows(cache, SPOTS, {}, sampled(PLAIN, cut_size=cut_size))
    TrainingWindows(cache, SPOTS, {}, sampled(PLAIN, cut_size=16))


def test_only_the_targets_of_heads_that_are_there_are_made(cache):
    with_heads = {weights: TrainingWindows(cache, SPOTS, {}, replace(PLAIN, heads=ModelConfig(*weights)))[0, 0]
                  for weights in ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0))}  # fmt: skip
    assert [set(item) - {"image", "labels"} for item in with_heads.values()] == [
        {"sac", "corner", "vessels"}, {"sac", "corner"}, set(),
    ]  # fmt: skip
    item = with_heads[1.0, 1.0]
    assert item["image"].shape == (3, 32, 32) and item["image"].dtype == torch.float32
    assert item["labels"].shape == (14,) and item["sac"].shape == (8, 8) and item["vessels"].shape == (8, 8)
    assert item["vessels"].unique().tolist() == [255]  # no series here has a mask


def test_plain_windows_are_those_of_their_rows_with_no_change(cache):
    places = pd.DataFrame({"SeriesInstanceUID": ["b", "a"], "slice": [5, 7], "plane": ["sagittal", "axial"]})
    config = InputConfig(image_size=48, neighbour_mm=3.0)
    windows = EvalWindows(cache, places, config)
    assert len(windows) == 2
    assert [decode(windows[0], channel) for channel in range(3)] == [("b", 2), ("b", 5), ("b", 8)]
    expected = read_window(cache, "a", 7, 3.0, crop_box(config, "axial")).transpose(2, 0, 1)
    np.testing.assert_array_equal(windows[1]["image"].numpy(), expected)
    assert windows[1]["number"].item() == 1


def test_a_data_set_without_negatives_has_positives_alone(cache):
    positives = SPOTS[SPOTS.kind == "positive"]
    windows = TrainingWindows(cache, positives, {}, PLAIN)
    assert len(windows) == 6 and windows[0, 5]["labels"].sum() > 0
