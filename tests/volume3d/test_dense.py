"""The second system with cells that answer: from endless parts and localizers to probabilities of DICOM files."""

from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from aneurysm.folds.targets import RIM
from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.phantom.config import LooksConfig, PhantomConfig
from aneurysm.phantom.dataset import make_dataset
from aneurysm.training.config import TrainingConfig
from aneurysm.training.losses import UNKNOWN
from tests.made_volumes import make_volumes
from volume3d.build_manifest import ManifestConfig
from volume3d.build_manifest import main as build_manifest
from volume3d.cases import cases_of_folds
from volume3d.config import (
    AugmentConfig,
    NetConfig,
    PhantomPartsConfig,
    PretrainingConfig,
    SamplingConfig,
    Volume3dConfig,
    VolumeSettings,
)
from volume3d.dataset import TrainingParts, mirrored_part
from volume3d.endless import EndlessParts
from volume3d.eval import EvalVolume3dConfig
from volume3d.eval import main as evaluate
from volume3d.inference import load_volume3d
from volume3d.localizers import LocalizerPoints, localizer_voxels
from volume3d.model import Volume3dNet
from volume3d.predict import PredictVolume3dConfig
from volume3d.predict import main as predict
from volume3d.preprocess import PreprocessConfig
from volume3d.preprocess import main as preprocess
from volume3d.pretrain import PretrainVolume3dConfig
from volume3d.pretrain import main as pretrain
from volume3d.train import TrainVolume3dConfig
from volume3d.train import main as train
from volume3d.training import Volume3dLoss

SETTINGS = VolumeSettings(z_mm=3.0, size=48, pixel_mm=2.4, centre=(0.44, 0.5), head_mm=150.0)
NET = NetConfig(width=16, stem_stride=(2, 2, 2), dense=1, dense_width=8)
TRAINING = TrainingConfig(epochs=1, batch_size=2, lr=2e-3, ema_decay=0.0, warmup_epochs=0, workers=0, precision="fp32")
SAMPLING = SamplingConfig(part=(16, 32, 32))
DENSE = Volume3dConfig(net=NET, training=TRAINING, sampling=SAMPLING)
PARTS = PhantomPartsConfig(sizes=(64,), shape=(16, 32, 32))
LEFT, RIGHT = (LOCATIONS.index(f"{side} Middle Cerebral Artery") for side in ("Left", "Right"))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def settings_of(config: Volume3dConfig) -> dict:
    return {field.name: getattr(config, field.name) for field in fields(Volume3dConfig)}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Four phantoms with volumes and folds, and model/pretrained/volume3d.safetensors after a few steps."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("dense")
    make_dataset(PhantomConfig(str(root), n_series=4, seed=3, size=64, balanced=True, workers=1))
    table = pd.read_csv(root / "train.csv", dtype={"SeriesInstanceUID": str})
    build_manifest(ManifestConfig(root, workers=1))
    preprocess(PreprocessConfig(**asdict(SETTINGS), data_dir=root, workers=1))
    folds = table.assign(fold=[0, 0, 1, 1], n_slices=20, series_type="CTA", plane="axial")
    folds.to_csv(root / "train_2_folds.csv", index=False)
    pretrain(
        PretrainVolume3dConfig(
            **settings_of(DENSE), volumes=SETTINGS, phantoms=PARTS, parts=8, model_dir=root / "model", device="cpu",
            pretraining=PretrainingConfig(every=4, check_dirs=(root,)),
        )
    )  # fmt: skip
    return root


def test_pretraining_leaves_weights_a_card_and_a_history_with_the_check_s_scores(root):
    folder = root / "model" / "pretrained"
    assert (folder / "volume3d.safetensors").stat().st_size < 5e6
    history = pd.read_csv(folder / "volume3d" / "history.csv")
    assert len(history) == 2 and f"{root.name} auc_present" in history.columns


def test_pretrained_weights_are_evaluated_and_predict_from_dicom_files_what_the_cache_gives(root, tmp_path, capsys):
    weights = str(root / "model" / "pretrained" / "volume3d.safetensors")
    evaluate(EvalVolume3dConfig(root, root / "model", folds=2, weights=weights, device="cpu"))
    assert "4 series, 0 without a volume" in capsys.readouterr().out
    cached = pd.read_csv(root / "model" / "volume3d" / "oof_volume3d.csv", dtype={"SeriesInstanceUID": str})
    out = tmp_path / "volume3d.csv"
    assert predict(PredictVolume3dConfig((root / "series",), weights=weights, out=out, device="cpu", workers=0)) == 0
    found = pd.read_csv(out, dtype={"SeriesInstanceUID": str}).set_index("SeriesInstanceUID")
    expected = cached.set_index("SeriesInstanceUID").loc[found.index, list(LABELS)]
    np.testing.assert_allclose(found[list(LABELS)].to_numpy(float), expected, atol=1e-5)


def test_volumes_made_otherwise_are_refused(root, tmp_path):
    make_volumes(tmp_path)
    for path in (tmp_path / "npy_volume").glob("*.json"):
        other = root / "npy_volume"
        described = next(other.glob("*.json")).read_text().replace('"z_mm": 3.0', '"z_mm": 2.5')
        path.write_text(described)
    weights = str(root / "model" / "pretrained" / "volume3d.safetensors")
    with pytest.raises(ValueError, match="z_mm 2.5 instead of 3.0"):
        evaluate(EvalVolume3dConfig(tmp_path, tmp_path, folds=2, weights=weights, device="cpu"))


def test_folds_are_trained_from_pretrained_weights_and_localizers(root, tmp_path, capsys):
    weights = str(root / "model" / "pretrained" / "volume3d.safetensors")
    train(TrainVolume3dConfig(
        **settings_of(DENSE), data_dir=root, model_dir=tmp_path, folds=2, weights=weights, device="cpu"
    ))  # fmt: skip
    output = capsys.readouterr().out
    assert "not there" not in output and "tensors from" in output
    assert len(pd.read_csv(tmp_path / "volume3d" / "oof_volume3d.csv")) == 4


def test_localizers_without_a_place_are_told(root):
    table = pd.read_csv(root / "train_localizers.csv", dtype=str)
    uids = set(table.SeriesInstanceUID)
    localizers, errors = localizer_voxels(root / "train_localizers.csv", root, uids)
    assert not errors and sum(len(own.locations) for own in localizers.values()) == len(table)
    far = table.assign(coordinates=table.coordinates.str.replace(r"'x': [^,]*", "'x': 9000.0", regex=True)).head(1)
    far.to_csv(root / "far.csv", index=False)
    localizers, errors = localizer_voxels(root / "far.csv", root, uids)
    assert not localizers and "lies outside the image" in errors[0]


def parts_of(tmp_path: Path, localizers: dict[str, LocalizerPoints], mirror_p: float = 0.0) -> TrainingParts:
    make_volumes(tmp_path)
    still = AugmentConfig(mirror_p=mirror_p, gain=0, offset=0, gamma=0)
    sampling = replace(SAMPLING, part=(8, 16, 16), ball_mm=6.0, rim_mm=9.0)
    return TrainingParts(cases_of_folds(tmp_path, 2), replace(DENSE, augment=still, sampling=sampling), localizers)


def marks_of(tmp_path: Path) -> dict[str, LocalizerPoints]:
    """The balls of made_volumes, at their middle."""
    localizers = {}
    for number in (1, 3, 5, 7):
        volume = np.load(tmp_path / "npy_volume" / f"1.2.{number}.npy")
        middle = np.argwhere(volume > 0.9).mean(axis=0)
        localizers[f"1.2.{number}"] = LocalizerPoints(middle[None], np.array([LEFT if number % 4 == 1 else RIGHT]))
    return localizers


@pytest.mark.parametrize("mirror_p", [0.0, 1.0])
def test_a_part_s_cells_hold_the_ball_around_its_localizer_and_mirrored_its_other_side(tmp_path, mirror_p):
    make_volumes(tmp_path)
    data, held = parts_of(tmp_path, marks_of(tmp_path), mirror_p), 0
    for number in (1, 3):
        expected = 1 + (LEFT if (number % 4 == 1) != bool(mirror_p) else RIGHT)
        for epoch in range(8):
            part = data[(epoch, number)]
            assert part["image"].shape == (1, 8, 16, 16) and part["sac"].shape == (4, 8, 8)
            assert (part["vessels"] == UNKNOWN).all()
            inside = (part["sac"] > 0) & (part["sac"] != RIM)
            assert set(part["sac"][inside].tolist()) <= {expected}
            assert part["labels"][expected - 1] == part["labels"][-1] == float(inside.any())
            if inside.any():
                held += 1
                brightness = torch.nn.functional.avg_pool3d(part["image"], 2)[0]
                assert brightness[inside].mean() > 0.6 > brightness[part["sac"] == 0].mean() + 0.2
    assert held >= 8


def test_a_part_knows_where_its_voxels_lie_mirrored_too(tmp_path):
    make_volumes(tmp_path)
    data = parts_of(tmp_path, {})
    part = data[(0, 0)]
    mirrored = mirrored_part(part)
    z, y, x = part["place_mm"].tolist()
    assert -3.0 * 11 <= z <= -3.0 * 7 and -1.5 * 19.5 <= y <= 1.5 * 4.5  # 12 slices, 40 rows, a part of 8 and 16
    last = x + 15 * 1.5
    assert mirrored["place_mm"].tolist() == pytest.approx([z, y, -last])
    assert torch.equal(mirrored["image"], part["image"].flip(3))


def test_an_aneurysm_without_a_localizer_is_not_taken_for_none(tmp_path):
    make_volumes(tmp_path)
    data = parts_of(tmp_path, {})
    assert (data[(0, 1)]["sac"] == RIM).all() and data[(0, 1)]["labels"].isnan().all()
    assert (data[(0, 0)]["sac"] == 0).all() and not data[(0, 0)]["labels"].any()


def test_endless_parts_are_stacked_and_the_same_for_any_worker():
    data = EndlessParts(DENSE, PARTS, SETTINGS, 1_000_000, 6)
    first, again = data[(1, 3)], EndlessParts(DENSE, PARTS, SETTINGS, 1_000_000, 9)[(1, 0)]  # both are number 9
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["image"].shape == (1, 16, 32, 32) and first["spacing_mm"].tolist() == pytest.approx([3.0, 2.4, 2.4])
    shown = set(first["sac"].unique().tolist()) - {0, RIM}
    assert first["labels"].nonzero().flatten().tolist() == [k - 1 for k in sorted(shown)] + [13] * bool(shown)


def test_a_second_use_of_a_part_is_its_mirror_image():
    still = replace(PARTS, uses=2, looks=LooksConfig(share=0.0))
    data = EndlessParts(DENSE, still, SETTINGS, 1_000_000, 12)
    scan = data.make_scan(0)
    first, second = (data.tensors(scan[number]) for number in (0, 2))  # two parts, then both once more
    assert (
        len(scan) == still.parts_per_scan == 4 and [is_mirrored for _, is_mirrored in scan] == [False] * 2 + [True] * 2
    )
    expected = mirrored_part(first)
    assert all(torch.equal(second[name], expected[name]) for name in expected)
    assert not torch.equal(second["image"], first["image"])


@pytest.mark.parametrize(
    ("config", "parts", "volumes", "named"),
    [
        (DENSE, replace(PARTS, shape=(15, 32, 32)), SETTINGS, "phantoms.shape"),
        (DENSE, PARTS, replace(SETTINGS, pixel_mm=0.0), "pixel_mm 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(config, parts, volumes, named):
    with pytest.raises(ValueError, match=named):
        EndlessParts(config, parts, volumes, 1_000_000, 4)


def mean_loss(model: Volume3dNet, parts: EndlessParts) -> float:
    loss = Volume3dLoss(DENSE.loss, torch.full((len(LABELS),), 0.5))
    batches = DataLoader([parts[0, number] for number in range(len(parts))], 4)
    with torch.inference_mode():
        return float(np.mean([loss(model.eval(), batch) for batch in batches]))


@pytest.mark.slow
def test_pretraining_lowers_the_loss_on_parts_of_another_seed(tmp_path):
    pretrain(
        PretrainVolume3dConfig(
            **settings_of(replace(DENSE, training=replace(TRAINING, batch_size=4, lr=3e-3))), volumes=SETTINGS,
            phantoms=PARTS, parts=240, model_dir=tmp_path, device="cpu", pretraining=PretrainingConfig(every=60),
        )
    )  # fmt: skip
    folder = tmp_path / "pretrained"
    assert len(pd.read_csv(folder / "volume3d" / "history.csv")) == 4
    trained = load_volume3d(folder / "volume3d.safetensors", torch.device("cpu"), None).model
    torch.manual_seed(DENSE.training.seed)
    others = EndlessParts(DENSE, PARTS, SETTINGS, 2_000_000, 32)
    assert mean_loss(trained, others) < 0.8 * mean_loss(Volume3dNet(NET), others)
