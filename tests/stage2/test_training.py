"""Stage 2 from features to scores: it learns, it keeps folds apart, and its scripts run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aneurysm.cache.features import read_features, write_features
from aneurysm.folds.tables import read_spots, read_unplaced
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.stage2.config import JitterConfig, NetConfig, Stage2Config, TokensConfig
from aneurysm.stage2.dataset import SliceLocalizers
from aneurysm.stage2.evaluate import evaluate_folds
from aneurysm.stage2.predict import load_stage2, predict_series
from aneurysm.stage2.training import HeldOut, train_fold
from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from eval_stage2 import EvalStage2Config, main
from tests.stage2_series import ALL_INPUTS, features_of, make_series

ROOT = Path(__file__).parents[2]
ALONE = DistContext(0, 1, torch.device("cpu"))
SMALL = NetConfig(width=16, depth=1, heads=2)
TINY = Stage2Config(
    net=SMALL, training=TrainingConfig(epochs=2, batch_size=8, lr=2e-3, ema_decay=0.9, workers=0, precision="fp32")
)
# By the folder of the held-out fold alone: what its encoder says of all series.
SEEN = replace(TINY, tokens=ALL_INPUTS)
PRESET = """
net: {width: 16, depth: 1, heads: 2}
training: {epochs: 2, batch_size: 8, lr: 0.002, ema_decay: 0.9, workers: 0, precision: fp32}
"""


def run(*args: str | Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, args)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """Two encoders' folders and two folds; series 1 and 6 (fold 0 and 1) are not in the cache."""
    root = tmp_path_factory.mktemp("made")
    series = make_series(root, n_series=36, n_features=12, folds=2, encoders=("one", "two"))
    for name in ("one", "two"):
        for fold in range(2):
            for i in (1, 6):
                (ModelPaths(root / "model", name).features(fold) / f"1.2.{i:04d}.safetensors").unlink()
    return root, series


@pytest.fixture(scope="module")
def trained(made) -> Path:
    """The root folder after the training script."""
    root, series = made
    (root / "preset.yaml").write_text(PRESET)
    output = run("train_stage2.py", "--data_dir", root / "data", "--model_dir", root / "model", "--folds", "2",
               "--encoder", "one", "--config", root / "preset.yaml", "--device", "cpu",
               "--training.sync", root / "copies")  # fmt: skip
    assert "fold 0: 17 series of" in output and "1 series without features left out" in output
    for fold in range(2):
        train_fold(series, marks_of(root, series), ModelPaths(root / "model", "two"), TINY, fold, ALONE, resume=False)
    return root


def marks_of(root: Path, series: pd.DataFrame) -> SliceLocalizers:
    return SliceLocalizers.of(series, read_spots(root / "data", 2), read_unplaced(root / "data", 2))


def evaluate(root: Path, **settings) -> None:
    main(EvalStage2Config(root / "data", root / "model", folds=2, device="cpu", **settings))


def test_one_slice_that_tells_the_label_is_found(tmp_path):
    rng = np.random.default_rng(0)
    series = pd.DataFrame({"SeriesInstanceUID": [f"s{i}" for i in range(160)], "fold": np.arange(160) // 40,
                           "series_type": "CTA", "plane": "axial", **dict.fromkeys(LABELS, 0)})  # fmt: skip
    series["Basilar Tip"] = series["Aneurysm Present"] = rng.integers(0, 2, 160)
    paths = ModelPaths(tmp_path, "encoder")
    for uid, positive in zip(series.SeriesInstanceUID, series["Basilar Tip"], strict=True):
        features = rng.normal(0, 1, (1, 12, 16)).astype(np.float16)
        features[0, rng.integers(12), 3] += 6 * positive
        write_features(paths.features(0) / f"{uid}.safetensors", features_of(np.zeros((1, 12, 14)), features), "")
    still = JitterConfig(mirror_p=0, thin_to_mm=0, drop_p=0)
    config = replace(TINY, net=replace(SMALL, width=32, input_dropout=0.0, dropout=0.1), jitter=still,
                     tokens=TokensConfig(inputs=("features",), cross_fitted=False),
                     training=replace(TINY.training, epochs=25, batch_size=20, lr=5e-3, evaluate_every=25))  # fmt: skip
    train_fold(series, SliceLocalizers({}, frozenset()), paths, config, 0, ALONE, resume=False)
    assert load_checkpoint(paths.stage2(0) / "last.pth")["scores"]["auc_present"] > 0.95


def test_the_held_out_fold_changes_nothing_that_is_learned(made, tmp_path):
    """Other labels and other features of fold 0: the weights are the same, the score is not."""
    root, series = made
    flipped = series.copy()
    flipped.loc[flipped.fold == 0, list(LABELS)] = 1 - flipped.loc[flipped.fold == 0, list(LABELS)]
    kept = []
    for name, table in (("as it is", series), ("flipped", flipped)):
        paths = ModelPaths(tmp_path, name)
        paths.features(0).mkdir(parents=True)
        for path in ModelPaths(root / "model", "one").features(0).iterdir():
            messages = read_features(path)
            held_out = table.fold[table.SeriesInstanceUID == path.stem].item() == 0
            write_features(
                paths.features(0) / path.name,
                replace(messages, logits=-messages.logits) if held_out and name == "flipped" else messages,
                "",
            )
        train_fold(table, marks_of(root, series), paths, SEEN, 0, ALONE, resume=False)
        kept.append(load_checkpoint(paths.stage2(0) / "last.pth"))
    first, second = kept
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert first["scores"] != second["scores"]


def test_a_run_that_is_resumed_ends_with_the_weights_of_an_undisturbed_one(made, tmp_path):
    root, series = made
    for name in ("whole", "resumed"):
        (tmp_path / name / "fold-1").mkdir(parents=True)
        (tmp_path / name / "fold-1" / "features").symlink_to(ModelPaths(root / "model", "one").features(1))
    whole, resumed = (ModelPaths(tmp_path, name) for name in ("whole", "resumed"))
    marks = marks_of(root, series)
    train_fold(series, marks, whole, SEEN, 1, ALONE, resume=False)

    class Killed(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aneurysm.training.tracking.Tracker.report", _killing(2, Killed))
        with pytest.raises(Killed):
            train_fold(series, marks, resumed, SEEN, 1, ALONE, resume=False)
    assert load_checkpoint(resumed.stage2(1) / "resume.pth")["run"]["epoch"] == 1
    train_fold(series, marks, resumed, SEEN, 1, ALONE, resume=True)
    expected, found = (load_checkpoint(paths.stage2(1) / "last.pth")["weights"] for paths in (whole, resumed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def _killing(epoch: int, error: type[Exception]):
    from aneurysm.training.tracking import Tracker

    report = Tracker.report

    def killed(self, row: dict) -> None:
        if row["epoch"] == epoch:
            raise error
        report(self, row)

    return killed


def test_a_series_without_features_gets_the_prevalence_of_the_other_folds(made, trained):
    root, series = made
    held_out = HeldOut.of_fold(series, ModelPaths(root / "model", "one"), 1)
    number = held_out.series.SeriesInstanceUID.tolist().index("1.2.0006")
    expected = series[series.fold == 0][list(LABELS)].mean().to_numpy()
    evaluation = evaluate_folds(series, ModelPaths(root / "model", "one"), [1], ALONE)
    assert np.allclose(evaluation.stage2[number], expected) and np.allclose(evaluation.max_baseline[number], expected)
    assert evaluation.n_missing == 1 and (~held_out.has_features).nonzero()[0].tolist() == [number]


def test_scores_and_answers_of_the_scripts_are_those_of_the_model(made, trained):
    root, series = made
    paths = ModelPaths(root / "model", "one")
    output = run("eval_stage2.py", "--data_dir", root / "data", "--model_dir", root / "model", "--folds", "2",
               "--encoder", "one", "--device", "cpu")  # fmt: skip
    table = pd.read_csv(paths.oof_stage2_csv, dtype={"SeriesInstanceUID": str})
    assert list(table) == ["SeriesInstanceUID", "fold", *LABELS] and len(table) == len(series)
    assert set(table.SeriesInstanceUID) == set(series.SeriesInstanceUID)
    uid = series.SeriesInstanceUID[series.fold == 1].iloc[4]
    model, config = load_stage2(paths.stage2(1) / "last.pth", unseen=1)
    row = series[series.SeriesInstanceUID == uid].iloc[0]
    features = read_features(paths.features(1) / f"{uid}.safetensors")
    expected = predict_series(model, config, features, row.series_type, row.plane)
    assert np.allclose(table[table.SeriesInstanceUID == uid][list(LABELS)], expected, atol=1e-6)
    for words in ("36 cases", "modality CTA", "plane axial", "2 without features", "maximum over slices", "difference"):
        assert words in output
    history = pd.read_csv(paths.stage2(0) / "history.csv")
    assert history.epoch.tolist() == [1, 2] and (paths.stage2(0) / "history.png").exists()


def test_a_model_that_has_seen_the_fold_is_not_asked(trained):
    path = ModelPaths(trained / "model", "one").stage2(0) / "last.pth"
    with pytest.raises(ValueError, match="expected a model that has not seen fold 1, found one that has not seen 0"):
        load_stage2(path, unseen=1)


def test_several_encoders_are_evaluated_alone_and_together(trained, capsys):
    evaluate(trained, encoders="one,two", sync=str(trained / "copies"))
    lines = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    for name in ("stage 2 of one", "stage 2 of two", "mean of probabilities", "mean of ranks"):
        assert lines.count(name) == 1
    assert all(ModelPaths(trained / "model", name).oof_stage2_csv.exists() for name in ("one", "two"))
    assert all(ModelPaths(trained / "copies", name).oof_stage2_csv.exists() for name in ("one", "two"))


def test_the_copies_of_a_run_lie_as_its_files_do(trained):
    for fold in range(2):
        own, copies = (ModelPaths(trained / name, "one").stage2(fold) for name in ("model", "copies"))
        assert (copies / "last.pth").read_bytes() == (own / "last.pth").read_bytes()
