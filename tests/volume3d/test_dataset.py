"""What the second system is fed with: boxes, small changes, sampling and patients, by hand."""

import numpy as np
import pytest
import torch

from aneurysm.folds.manifest import write_manifest
from aneurysm.training.config import TrainingConfig
from aneurysm.training.data import EpochBatches, training_loader
from aneurysm.training.distributed import DistContext
from tests.made_volumes import entry, make_volumes, write_volume
from volume3d.augment import augmented, contrasted, mirrored, turned
from volume3d.cases import cases_of_folds, cases_of_split
from volume3d.config import AugmentConfig, InputConfig, SamplingConfig, Volume3dConfig
from volume3d.crop import cut, seen_centre
from volume3d.dataset import EvalVolumes, TrainingVolumes, balanced_chances
from volume3d.patient import PATIENT_KEYS, patient_inputs

STILL = AugmentConfig(mirror_p=0, affine_p=0, gain=0, offset=0, gamma=0)
SMALL = Volume3dConfig(input=InputConfig(shape=(8, 32, 32), centre=(0.5, 0.5), below_top_mm=16.5))


def point(shape: tuple[int, int, int], *at: int) -> np.ndarray:
    volume = np.zeros(shape, np.float32)
    volume[at] = 1
    return volume


def where(volume: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.argmax(volume), volume.shape))


def test_a_box_inside_a_volume_is_that_part_of_it():
    volume = np.arange(5 * 6 * 7, dtype=np.float16).reshape(5, 6, 7) / 256
    box = cut(volume, np.array([2, 3, 3]), (3, 3, 5))
    assert box.dtype == np.float32 and np.array_equal(box, volume[1:4, 2:5, 1:6])
    assert np.array_equal(cut(volume, np.array([1.5, 2.5, 2.5]), (4, 2, 2)), volume[0:4, 2:4, 2:4])


def test_what_a_box_has_outside_its_volume_is_nothing():
    volume = np.ones((2, 3, 4), np.float16)
    box = cut(volume, np.array([1, 1, 0]), (5, 3, 3))
    assert box.sum() == 2 * 3 * 2 and (box[1:3, :, 1:] == 1).all()
    assert (cut(volume, np.array([40, 1, 1]), (3, 3, 3)) == 0).all()


def test_the_middle_of_the_input_lies_in_millimetres_below_the_top():
    config = InputConfig(centre=(0.25, 0.5), below_top_mm=30.0)
    # 21 slices 3 mm apart: the top is slice 20, 30 mm below it is slice 10; 40 rows: a quarter is between 9 and 10
    assert seen_centre((21, 40, 60), 3.0, config).tolist() == [10, 9.5, 29.5]


def test_mirroring_exchanges_columns_and_the_labels_of_the_sides():
    labels = np.zeros(14, np.float32)
    labels[[4, 13]] = 1  # left middle cerebral artery
    volume, swapped = mirrored(point((3, 4, 6), 1, 2, 5), labels)
    assert where(volume) == (1, 2, 0) and np.flatnonzero(swapped).tolist() == [5, 13]


def test_contrast_by_hand_stays_between_0_and_1():
    values = np.array([[[0.0, 0.25, 1.0]]], np.float32)
    assert contrasted(values, 1.2, 0.1, 0.5).ravel() == pytest.approx([0.1, 0.7, 1.0])  # 1.2 * 0.5 + 0.1, and 1.3
    assert contrasted(values, 0.5, -0.2, 1.0).ravel() == pytest.approx([0.0, 0.0, 0.3])


def test_turning_takes_the_front_to_the_patients_left():
    """Rows run to the back and columns to the left: 5 rows in front of the middle become 5 columns left of it."""
    volume = point((9, 21, 21), 4, 5, 10)
    turned_by = turned(volume, np.array([4, 10, 10]), (9, 21, 21), degrees=90, scale=1.0)
    assert where(turned_by) == (4, 10, 15) and turned_by.max() == pytest.approx(1, abs=1e-5)


def test_scaling_moves_away_from_the_middle_along_all_axes():
    volume = point((21, 21, 21), 12, 6, 10)
    larger = turned(volume, np.array([10, 10, 10]), (21, 21, 21), degrees=0, scale=2.0)
    assert where(larger) == (14, 2, 10)


def test_a_box_that_is_neither_turned_nor_scaled_is_the_box_cut_out():
    volume = np.random.default_rng(0).random((20, 30, 30)).astype(np.float16)
    for centre in (np.array([9, 14, 12]), np.array([2.5, 14.5, 28.5])):
        plain = cut(volume, centre, (8, 10, 12))
        if (centre % 1).any():  # an even box has its middle between voxels
            assert np.allclose(turned(volume, centre, (8, 10, 12), 0, 1.0), plain, atol=1e-6)
        else:
            assert np.allclose(turned(volume, centre, (7, 9, 11), 0, 1.0), cut(volume, centre, (7, 9, 11)), atol=1e-6)


def test_changes_stay_within_their_bounds_and_off_means_off():
    volume, labels = np.random.default_rng(0).random((16, 40, 40)).astype(np.float32), np.zeros(14, np.float32)
    rng, centre = np.random.default_rng(1), np.array([8, 20, 20])
    same, _ = augmented(volume, labels, centre, (7, 31, 31), STILL, rng)
    assert np.allclose(same, cut(volume, centre, (7, 31, 31)), atol=1e-6)
    for _ in range(20):
        changed, _ = augmented(volume, labels, centre, (7, 31, 31), AugmentConfig(), rng)
        assert changed.shape == (7, 31, 31) and changed.dtype == np.float32
        assert changed.min() >= 0 and changed.max() <= 1


def test_patients_become_numbers_and_what_nobody_knows_is_marked():
    known = patient_inputs(75.0, "M", 55.0)
    assert known == {"age": 1.0, "sex": -1.0, "weight": -1.0, "age_known": 1.0, "sex_known": 1.0, "weight_known": 1.0}
    assert set(patient_inputs(None, None, None).values()) == {0.0}
    middle = patient_inputs(55.0, "F", None)
    assert (middle["age"], middle["age_known"], middle["sex"], middle["weight_known"]) == (0.0, 1.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_volumes(folder, n_series=12)
    return folder


def test_items_of_volumes_of_any_size_stack(data_dir, tmp_path):
    write_volume(tmp_path, "1.2.0", np.full((3, 20, 50), 0.5, np.float32))
    write_volume(tmp_path, "1.2.1", np.full((30, 50, 20), 0.5, np.float16))
    labels = np.full(14, np.nan)
    write_manifest(tmp_path / "manifest.jsonl", [entry("1.2.0", labels, None, None), entry("1.2.1", labels)])
    (tmp_path / "split.csv").write_text("SeriesInstanceUID,split\n1.2.0,train\n1.2.1,train\n")
    cases = cases_of_split(tmp_path, tmp_path / "split.csv")
    items = [EvalVolumes(cases, SMALL)[i] for i in range(2)] + [TrainingVolumes(cases, SMALL)[(0, i)] for i in (0, 1)]
    assert {tuple(item["image"].shape) for item in items} == {(1, 8, 32, 32)}
    assert all(item["image"].dtype == torch.float32 and torch.isnan(item["labels"]).all() for item in items)
    assert set(items[0]) == {"image", "labels", "number", *PATIENT_KEYS}
    assert items[0]["age_known"] == 0 and items[1]["age"] == pytest.approx((60 - 55) / 20)


def test_the_input_is_the_part_of_the_volume_that_was_asked_for(data_dir):
    item = EvalVolumes(cases_of_folds(data_dir, 2), SMALL)[1]
    volume = np.load(data_dir / "npy_volume" / "1.2.1.npy")  # 16.5 mm below slice 11 is 5.5: slices 2 to 9
    assert np.array_equal(item["image"][0].numpy(), volume[2:10, 4:36, 4:36].astype(np.float32))
    assert item["labels"].tolist() == [float(i in (4, 13)) for i in range(14)]


def batches(data_dir, workers: int, epoch: int, balanced: bool = False) -> list[dict]:
    config = Volume3dConfig(SMALL.input, SamplingConfig(balanced=balanced), training=TrainingConfig(seed=3))
    order = EpochBatches(12, 4, 1, DistContext(0, 1, torch.device("cpu")), 3)
    order.epoch = epoch
    return list(training_loader(TrainingVolumes(cases_of_folds(data_dir, 2), config), order, workers))


def test_worker_processes_change_nothing_and_each_epoch_is_another(data_dir):
    alone, helped, later = batches(data_dir, 0, 0), batches(data_dir, 2, 0), batches(data_dir, 0, 1)
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert sorted(n for b in later for n in b["number"].tolist()) == list(range(12))
    pairs = [(a["image"][list(a["number"]).index(n)], b["image"][list(b["number"]).index(n)])
             for a in alone for b in later for n in set(a["number"].tolist()) & set(b["number"].tolist())]  # fmt: skip
    assert not any(torch.equal(one, other) for one, other in pairs)


def test_balanced_draws_depend_on_seed_epoch_and_sample_alone(data_dir):
    first, again, later = (batches(data_dir, 0, epoch, balanced=True) for epoch in (0, 0, 1))
    numbers = [[n for batch in drawn for n in batch["number"].tolist()] for drawn in (first, again, later)]
    assert numbers[0] == numbers[1] != numbers[2] and sorted(numbers[0]) != list(range(12))


@pytest.mark.parametrize("balanced", [False, True])
def test_each_item_is_called_by_the_series_that_it_shows(data_dir, balanced):
    still = Volume3dConfig(SMALL.input, SamplingConfig(balanced, crop_shift=(0, 0, 0)), STILL)
    volumes = TrainingVolumes(cases_of_folds(data_dir, 2), still)
    for key in [(epoch, i) for epoch in range(2) for i in range(len(volumes))]:
        saved = np.load(data_dir / "npy_volume" / f"{volumes.name_of(key)}.npy")[2:10, 4:36, 4:36]
        assert np.allclose(volumes[key]["image"][0], saved, atol=1e-6)


def test_balanced_chances_by_hand():
    """Six without; two with label 0, one with label 4, one of these with both: half for those without, and of the
    other half a half for each location."""
    labels = np.zeros((9, 14))
    labels[[0, 1], 0] = labels[[1, 2], 4] = 1
    labels[[0, 1, 2], 13] = 1
    chance = balanced_chances(labels)
    assert chance == pytest.approx([0.125, 0.25, 0.125] + [0.5 / 6] * 6)
    labels[3, 13] = 1  # positive, nobody knows where: a kind of its own
    assert balanced_chances(labels) == pytest.approx([1 / 12, 2 / 12, 1 / 12, 2 / 12] + [0.1] * 5)
    labels[8] = np.nan
    assert balanced_chances(labels)[8] == pytest.approx(0.1)
    assert balanced_chances(np.zeros((4, 14))) == pytest.approx([0.25] * 4)


def test_a_limit_keeps_the_shares_of_folds_and_aneurysms(data_dir):
    few = cases_of_folds(data_dir, 2).first(4).table
    assert sorted(zip(few.part, few["Aneurysm Present"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len(cases_of_folds(data_dir, 2).first(0)) == 12


def test_a_series_that_the_manifest_does_not_name_is_said(tmp_path):
    make_volumes(tmp_path)
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "manifest.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match="manifest.jsonl: expected 8 series, found no 1.2.7"):
        cases_of_folds(tmp_path, 2)


def test_a_damaged_volume_is_named(tmp_path):
    make_volumes(tmp_path)
    path = tmp_path / "npy_volume" / "1.2.3.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="1.2.3.npy"):
        EvalVolumes(cases_of_folds(tmp_path, 2), SMALL)[3]
