"""train_stage1.py from tables to models, on a few small heads; what stage 1's scripts cannot use is one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import eval_stage1
import mine_hard_negatives
import train_stage1
from aneurysm.config import run_script
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.predict import load_stage1
from aneurysm.training.checkpoint import load_checkpoint
from tests.stage1_scripts import ENCODER, SCRIPTS, arguments, call, history

pytestmark = pytest.mark.usefixtures("quick_pictures")
torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(trained_stage1: Path) -> Path:
    """As others use it, too: nothing is written there."""
    return trained_stage1


def test_each_fold_gets_its_model_which_says_what_it_was_made_of(folder):
    paths, output = ModelPaths(folder / "model", ENCODER), (folder / "said.txt").read_text()
    for fold in (0, 1):
        assert {"last.pth", "best.pth", "resume.pth", "history.csv", "history.png"} == {
            path.name for path in paths.fold(fold).iterdir()
        }
        saved = load_checkpoint(paths.stage1(fold))
        assert saved["config"]["fold"] == fold and saved["epoch"] == 2 and saved["labels"] == list(LABELS)
        model, config = load_stage1(paths.stage1(fold), unseen=fold)
        assert isinstance(config, Stage1Config) and config.input.image_size == 64 and not model.training
        assert history(folder / "model", fold).epoch.tolist() == [1, 2]
        assert str(paths.stage1(fold)) in output
    # Two positives twice, and three negatives of each of three series, in either fold.
    assert output.count("encoder: random weights; 13 windows an epoch, 0 series with hard negatives") == 2


def test_two_processes_train_and_evaluate_like_one(folder, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train_stage1.py"]
    preset = ["--config", str(folder / "preset.yaml"), "--fold", "0"]
    result = subprocess.run(
        [sys.executable, *launcher, *arguments(folder, tmp_path), *preset],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("windows an epoch") == 1  # only one of them talks
    one, two = history(folder / "model", 0), history(tmp_path, 0)
    for name in ("loss", "score", "auc_present"):
        np.testing.assert_allclose(two[name], one[name], atol=1e-4, err_msg=name)
    weights = [
        load_checkpoint(ModelPaths(place, ENCODER).stage1(0))["weights"] for place in (folder / "model", tmp_path)
    ]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-3) for name in weights[0])


def test_resuming_a_finished_run_changes_nothing(folder, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    call(train_stage1, folder, tmp_path / "model", "--resume", "--fold", "0")
    pd.testing.assert_frame_equal(history(tmp_path / "model", 0), history(folder / "model", 0))
    before, after = (load_checkpoint(ModelPaths(place, ENCODER).stage1(0))["weights"]
                     for place in (folder / "model", tmp_path / "model"))  # fmt: skip
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_of_all_series_has_no_score_and_is_asked_about_none_of_them(folder, tmp_path):
    call(train_stage1, folder, tmp_path, "--fold", "none", "--training.epochs", "1")
    paths = ModelPaths(tmp_path, ENCODER)
    assert [path.name for path in paths.folder.glob("[!.]*")] == ["fold-none"]
    assert "score" not in history(tmp_path, None)
    assert load_checkpoint(paths.stage1(None))["config"]["fold"] is None
    shutil.copytree(paths.fold(None), paths.fold(0))
    with pytest.raises(ValueError, match="last.pth: expected a model that has not seen fold 0"):
        call(eval_stage1, folder, tmp_path)
    with pytest.raises(ValueError, match="fold none: expected a fold to evaluate on; models of all series have seen"):
        call(eval_stage1, folder, tmp_path, "--fold", "none")


@pytest.mark.parametrize(
    ("script", "args", "words"),
    [
        (train_stage1, ["--data_dir", "{empty}"], "train_stage1_2_folds.csv: not there"),
        (train_stage1, ["--hard_negatives", "{empty}/none.parquet"], "none.parquet: not there; mine_hard_negatives.py"),
        (train_stage1, ["--fold", "7"], "fold 7: expected a number below 2, or all, or none"),
        (train_stage1, ["--encoder", "no_such_net"], "encoder no_such_net: timm"),
        (train_stage1, ["--weights", "{empty}/w.pth"], "w.pth: expected pretrained, timm, none"),
        (train_stage1, ["--training.batch_size", "40"], "expected at least one batch of 40 samples, found 13"),
        (eval_stage1, ["--model_dir", "{empty}"], "expected one encoder or --encoder, found none"),
        (eval_stage1, ["--encoder", "other"], "other: expected fold-<k>/last.pth, found none"),
        (eval_stage1, ["--fold", "x"], "fold x: expected a number below 2, or all"),
        (eval_stage1, ["--folds", "3"], "train_stage1_3_folds.csv: not there"),
        (mine_hard_negatives, ["--data_dir", "{empty}"], "train_2_folds.csv: not there"),
    ],
)
def test_bad_input_is_one_line_and_not_a_traceback(folder, tmp_path, monkeypatch, script, args, words):
    args = [arg.replace("{empty}", str(tmp_path)) for arg in args]
    start = [*arguments(folder, folder / "model"), "--folds", "2", "--device", "cpu"]
    if script is train_stage1:
        start = [*arguments(folder, tmp_path), "--config", str(folder / "preset.yaml")]
    monkeypatch.setattr("sys.argv", ["script.py", *start, *args])
    with pytest.raises(SystemExit) as stop:
        run_script(script.main, SCRIPTS[script], script.__doc__)
    assert stop.value.code.startswith("error: ") and words in stop.value.code
