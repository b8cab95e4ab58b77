"""The second system from volumes to scores: it learns, it keeps folds apart, and its scripts run."""

import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score
from torchmetrics.classification import MultilabelAUROC

from aneurysm.config import parse_config, subset
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from tests.made_volumes import make_volumes
from volume3d.cases import Cases, cases_of_folds
from volume3d.config import AugmentConfig, InputConfig, NetConfig, SamplingConfig, Volume3dConfig, VolumeSettings
from volume3d.dataset import EvalVolumes
from volume3d.eval import EvalVolume3dConfig
from volume3d.eval import main as evaluate
from volume3d.evaluate import evaluate_folds
from volume3d.inference import load_volume3d, predict_volumes
from volume3d.model import Volume3dNet
from volume3d.preprocess import PreprocessConfig
from volume3d.pretrain import PretrainVolume3dConfig
from volume3d.train import TrainVolume3dConfig
from volume3d.train import main as train_script
from volume3d.training import HeldOut, train

ROOT = Path(__file__).parents[2]
ALONE = DistContext(0, 1, torch.device("cpu"))
TINY = Volume3dConfig(
    input=InputConfig(shape=(8, 32, 32), centre=(0.5, 0.5), below_top_mm=16.5),
    sampling=SamplingConfig(crop_shift=(1, 2, 2)),
    net=NetConfig(width=16, norm="group", pooling="max"),
    training=TrainingConfig(epochs=1, batch_size=4, lr=2e-3, ema_decay=0.0, workers=0, precision="fp32"),
)
PRESET = """
input: {shape: [8, 32, 32], centre: [0.5, 0.5], below_top_mm: 16.5}
net: {width: 16, norm: group, checkpointing: true, patient: true}
training: {epochs: 1, batch_size: 2, workers: 0, precision: fp32}
"""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def run(*args: str | Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def script_config(root: Path, **settings) -> TrainVolume3dConfig:
    tiny = {field.name: getattr(TINY, field.name) for field in fields(Volume3dConfig)}
    tiny["training"] = replace(TINY.training, batch_size=2)
    return TrainVolume3dConfig(data_dir=root, model_dir=root / "model", folds=2, device="cpu", **tiny, **settings)


def one_fold(cases: Cases, fold: int, config: Volume3dConfig, folder: Path) -> dict:
    train(cases.without(fold), cases.of(fold), config, fold, "", folder, ALONE, False, folder / "no localizers.csv")
    return load_checkpoint(folder / "last.pth")


def test_a_bright_ball_and_its_side_are_learned(tmp_path):
    make_volumes(tmp_path, n_series=32)
    still = AugmentConfig(affine_p=0.0, gain=0.0, offset=0.0, gamma=0.0)
    training = replace(TINY.training, epochs=8, batch_size=4, evaluate_every=8)
    config = replace(TINY, augment=still, training=training)
    scores = one_fold(cases_of_folds(tmp_path, 2), 0, config, tmp_path / "model")["scores"]
    assert scores["auc_present"] > 0.95 and scores["score"] > 0.9


def test_the_held_out_fold_changes_nothing_that_is_learned(tmp_path):
    """Other labels and other volumes of fold 0: the weights are the same, the scores are not."""
    make_volumes(tmp_path)
    cases = cases_of_folds(tmp_path, 2)
    before = one_fold(cases, 0, TINY, tmp_path / "before")
    own = cases.table.part == 0
    cases.table.loc[own, list(LABELS)] = 1 - cases.table.loc[own, list(LABELS)]
    for uid in cases.table.SeriesInstanceUID[own]:
        path = tmp_path / "npy_volume" / f"{uid}.npy"
        np.save(path, np.random.default_rng(9).random(np.load(path).shape).astype(np.float16))
    after = one_fold(cases, 0, TINY, tmp_path / "after")
    assert all(torch.equal(before["weights"][name], after["weights"][name]) for name in before["weights"])
    assert before["scores"] != after["scores"]
    assert before["config"]["prevalence"] == after["config"]["prevalence"]


class LeftHalf(torch.nn.Module):
    """Its logit of label 4, on the left, is the mean of the left half; it never looks to the right."""

    def forward(self, batch: dict) -> dict[str, torch.Tensor]:
        logits = torch.zeros(len(batch["image"]), 14)
        logits[:, 4] = batch["image"][..., 16:].mean(dim=(1, 2, 3, 4))
        return {"logits": logits}


def test_what_is_said_of_the_mirror_image_is_said_of_the_other_side(tmp_path):
    make_volumes(tmp_path)
    volumes = EvalVolumes(cases_of_folds(tmp_path, 2), TINY)
    predictions = predict_volumes(LeftHalf(), volumes, TINY, ALONE)
    halves = torch.stack([volumes[i]["image"].reshape(-1, 2, 16).mean(dim=(0, 2)) for i in range(8)])
    right, left = halves.sigmoid().T.numpy()
    assert predictions[:, 4] == pytest.approx((left + 0.5) / 2) and predictions[:, 5] == pytest.approx(
        (right + 0.5) / 2
    )
    plain = predict_volumes(LeftHalf(), volumes, replace(TINY, input=replace(TINY.input, tta=False)), ALONE)
    assert plain[:, 4] == pytest.approx(left) and (np.delete(plain, 4, axis=1) == 0.5).all()


def held_out_of(truth: np.ndarray, **columns) -> HeldOut:
    table = pd.DataFrame(truth, columns=list(LABELS)).assign(part=0, has_volume=True, **columns)
    return HeldOut(Cases(Path("."), table.assign(SeriesInstanceUID=[str(i) for i in table.index])), np.full(14, 0.1))


def test_scores_are_those_of_torchmetrics_and_scikit_learn():
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 14)) < 0.3).astype(int)
    predictions = np.clip(0.3 * truth + 0.7 * rng.random((80, 14)), 0, 1)
    scores = held_out_of(truth).scores(predictions)
    each = MultilabelAUROC(num_labels=14, average=None)(torch.tensor(predictions), torch.tensor(truth)).double().numpy()
    assert scores["score"] == pytest.approx(0.5 * each[13] + 0.5 * each[:13].mean(), abs=1e-6)
    assert scores["auc_present"] == pytest.approx(each[13], abs=1e-6)
    assert scores["ap_present"] == average_precision_score(truth[:, 13], predictions[:, 13])
    assert scores["accuracy_present"] == accuracy_score(truth[:, 13], predictions[:, 13] > 0.5)


def test_a_fold_without_any_aneurysm_has_no_average_precision_and_no_score():
    scores = held_out_of(np.zeros((4, 14), int)).scores(np.full((4, 14), 0.2))
    assert np.isnan(scores["ap_present"]) and np.isnan(scores["score"]) and scores["accuracy_present"] == 1


def test_a_series_without_a_volume_is_answered_with_the_prevalences_of_the_other_folds(tmp_path):
    table = make_volumes(tmp_path)
    (tmp_path / "npy_volume" / "1.2.1.npy").unlink()  # of fold 0
    cases, paths = cases_of_folds(tmp_path, 2), ModelPaths(tmp_path / "model", "volume3d")
    for fold in range(2):
        config = replace(TINY, training=replace(TINY.training, batch_size=2))
        one_fold(cases, fold, config, paths.fold(fold))
    evaluation = evaluate_folds(cases, paths, [0, 1], ALONE)
    predictions = evaluation.table().set_index("SeriesInstanceUID")
    other = table[table.fold == 1][list(LABELS)].to_numpy()
    assert predictions.loc["1.2.1", list(LABELS)].tolist() == pytest.approx(
        (other.sum(axis=0) + 0.5) / (len(other) + 1)
    )
    assert (
        set(predictions.index) == set(table.SeriesInstanceUID)
        and predictions[list(LABELS)].round(6).drop_duplicates().shape[0] == 8
    )
    assert evaluation.counted.startswith("8 series, 1 without a volume")
    with pytest.raises(ValueError, match="expected a model that has not seen fold 1, found one that has not seen 0"):
        load_volume3d(paths.fold(0) / "last.pth", ALONE.device, 1)


def test_no_volume_at_all_is_said_by_folder(tmp_path):
    make_volumes(tmp_path)
    for path in (tmp_path / "npy_volume").glob("*.npy"):
        path.unlink()
    with pytest.raises(ValueError, match="npy_volume: expected volumes of 4 series"):
        one_fold(cases_of_folds(tmp_path, 2), 0, TINY, tmp_path / "model")


def test_labels_that_nobody_knows_are_neither_learned_nor_evaluated(tmp_path, capsys):
    make_volumes(tmp_path)
    cases = cases_of_folds(tmp_path, 2)
    cases.table[list(LABELS)] = cases.table[list(LABELS)].astype(float)
    cases.table.loc[[0, 2], LABELS[0]] = np.nan  # one of each fold
    saved = one_fold(cases, 0, TINY, tmp_path / "model")
    assert all(tensor.isfinite().all() for tensor in saved["weights"].values())
    assert "held out 3, 0 of them without, and 1 whose labels are not all known left out" in capsys.readouterr().out


@pytest.fixture(scope="module")
def scripted(tmp_path_factory) -> tuple[Path, str]:
    """Data and models after the training script, and what it printed."""
    root = tmp_path_factory.mktemp("scripted")
    make_volumes(root)
    (root / "preset.yaml").write_text(PRESET)
    output = run("-m", "volume3d.train", "--data_dir", root, "--model_dir", root / "model", "--folds", "2",
               "--config", root / "preset.yaml", "--device", "cpu")  # fmt: skip
    return root, output


def test_the_scripts_train_judge_and_blend(scripted, capsys):
    root, output = scripted
    oof = root / "model" / "volume3d" / "oof_volume3d.csv"
    assert f"{oof}: 8 series, 0 without a volume" in output
    first = pd.read_csv(oof, dtype={"SeriesInstanceUID": str})
    assert list(first) == ["SeriesInstanceUID", "fold", *LABELS] and sorted(first.fold) == [0] * 4 + [1] * 4
    other = root / "model" / "lite0" / "oof_stage2.csv"
    other.parent.mkdir()
    first.assign(**dict(zip(LABELS, np.random.default_rng(0).random((14, 8)), strict=True))).to_csv(other, index=False)
    evaluate(EvalVolume3dConfig(root, root / "model", folds=2, blend=other, device="cpu"))
    messages = capsys.readouterr().out
    assert "volume3d, held-out series of fold 0, 1; 8 series" in messages and "modality CTA" in messages
    assert "Differences from lite0" in messages
    again = pd.read_csv(oof, dtype={"SeriesInstanceUID": str})
    assert np.allclose(first[list(LABELS)], again[list(LABELS)])
    evaluate(EvalVolume3dConfig(root, root / "model", folds=2, limit=4, device="cpu"))
    assert f"{oof} stays as it is: it holds 4 other series" in capsys.readouterr().out
    assert len(pd.read_csv(oof)) == 8
    history = pd.read_csv(root / "model" / "volume3d" / "fold-0" / "history.csv")
    assert {"score", "auc_present", "ap_present", "accuracy_present", "loss"} <= set(history)


def test_a_split_is_trained_and_evaluated_and_another_split_is_refused(scripted, capsys):
    root, _ = scripted
    path, model_dir = root / "volume_split.csv", root / "model"
    table = pd.DataFrame(
        {"SeriesInstanceUID": [f"1.2.{i}" for i in range(8)], "split": ["train"] * 4 + ["val"] * 2 + ["test"] * 2}
    )
    table.to_csv(path, index=False)
    asked = EvalVolume3dConfig(root, model_dir, split=path, device="cpu")
    train_script(script_config(root, split=path))
    evaluate(asked)
    assert "held-out series of test; 2 series" in capsys.readouterr().out
    table.assign(split=table.split[::-1].to_numpy()).to_csv(path, index=False)
    with pytest.raises(ValueError, match="expected a model that has not seen fold"):
        evaluate(asked)


def test_a_plateau_of_the_held_out_score_is_refused_where_folds_are_reported(scripted):
    root, _ = scripted
    training = replace(TINY.training, schedule="plateau", plateau_on="score")
    with pytest.raises(ValueError, match="the held-out fold would have a say in the weights"):
        train_script(replace(script_config(root), training=training))


def test_a_resumed_run_of_all_folds_does_nothing_again(scripted):
    root, _ = scripted
    path = root / "model" / "volume3d" / "fold-1" / "resume.pth"
    before = path.stat().st_mtime_ns
    arguments = ["--config", str(root / "preset.yaml"), "--data_dir", str(root), "--model_dir", str(root / "model")]
    train_script(parse_config(TrainVolume3dConfig, "", [*arguments, "--folds", "2", "--resume", "--device", "cpu"]))
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["base", "demo", "dense", "pooled"])
def test_every_preset_is_a_configuration_that_a_network_can_be_made_of(name):
    script = PretrainVolume3dConfig if name == "dense" else TrainVolume3dConfig
    config = parse_config(script, "", ["--config", f"volume3d/{name}"])
    Volume3dNet(config.net)
    assert config.training.batch_size % config.training.accumulate == 0
    assert not config.net.dense or all(n % config.net.stride == 0 for n in config.sampling.part)


def test_volumes_are_made_as_the_presets_with_cells_expect_them():
    made = parse_config(PreprocessConfig, "", ["--config", "volume3d/volumes"])
    expected = parse_config(PretrainVolume3dConfig, "", ["--config", "volume3d/dense"])
    assert subset(VolumeSettings, made) == expected.volumes
    kept = {path.stem for path in (ROOT / "configs" / "volume3d").glob("*.yaml")}
    assert kept == {"base", "demo", "dense", "pooled", "volumes"}
