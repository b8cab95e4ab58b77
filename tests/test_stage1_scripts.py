"""train_stage1.py, eval_stage1.py and mine_hard_negatives.py from tables to tables, on a few small heads."""

import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import eval_stage1
import mine_hard_negatives
import train_stage1
from aneurysm.config import parse_config, run_script
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.predict import load_stage1
from aneurysm.stage1.run import HeldOut
from aneurysm.training import tracking
from aneurysm.training.checkpoint import load_checkpoint
from tests.stage1_cache import HEADS, N_SLICES, NEGATIVE_SLICES, SLICE_MM, write_data

torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]
ENCODER = "test_convnext"  # timm's smallest; no batch norm: two processes see what one sees
PRESET = {
    "encoder": ENCODER, "encoder_weights": "none", "device": "cpu", "folds": 2, "fold": "all",
    "input": {"image_size": 64}, "heads": {"neck_width": 16, "drop_rate": 0.0},
    "sampling": {"positive_repeats": 2},
    "training": {"epochs": 2, "batch_size": 4, "workers": 0, "precision": "fp32", "ema_decay": 0.5, "lr": 1e-3},
}  # fmt: skip
SCRIPTS = {
    train_stage1: train_stage1.TrainStage1Config,
    eval_stage1: eval_stage1.EvalStage1Config,
    mine_hard_negatives: mine_hard_negatives.MineConfig,
}


@pytest.fixture(scope="module", autouse=True)
def no_plots():
    """Most of these short runs' time would go into history.png, which other tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "plot_history", lambda history, path: path.touch())
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """data/, preset.yaml, and model/ with what one process has trained for each fold; said.txt is what it said."""
    folder = tmp_path_factory.mktemp("stage1")
    (folder / "data").mkdir()
    write_data(folder / "data")
    (folder / "preset.yaml").write_text(yaml.safe_dump(PRESET))
    with open(folder / "said.txt", "w") as said, redirect_stdout(said):
        call(train_stage1, folder, folder / "model", "--training.sync", str(folder / "copies"))
    return folder


def arguments(folder: Path, model_dir: Path) -> list[str]:
    return ["--data_dir", str(folder / "data"), "--model_dir", str(model_dir)]


def call(script: ModuleType, folder: Path, model_dir: Path, *args: str) -> None:
    """A script in this process."""
    preset = (
        ["--config", str(folder / "preset.yaml")] if script is train_stage1 else ["--folds", "2", "--device", "cpu"]
    )
    script.main(parse_config(SCRIPTS[script], "", [*arguments(folder, model_dir), *preset, *args]))


def history(model_dir: Path, fold: int | None) -> pd.DataFrame:
    return pd.read_csv(ModelPaths(model_dir, ENCODER).fold(fold) / "history.csv")


def test_each_fold_gets_its_model_which_says_what_it_was_made_of(folder):
    paths, said = ModelPaths(folder / "model", ENCODER), (folder / "said.txt").read_text()
    for fold in (0, 1):
        assert {"last.pth", "best.pth", "resume.pth", "history.csv", "history.png"} == {
            path.name for path in paths.fold(fold).iterdir()
        }
        saved = load_checkpoint(paths.stage1(fold))
        assert saved["config"]["fold"] == fold and saved["epoch"] == 2 and saved["labels"] == list(LABELS)
        model, config = load_stage1(paths.stage1(fold), unseen=fold)
        assert isinstance(config, Stage1Config) and config.input.image_size == 64 and not model.training
        assert history(folder / "model", fold).epoch.tolist() == [1, 2]
        assert str(paths.stage1(fold)) in said
    # Two positives twice, and three negatives of each of three series, in either fold.
    assert said.count("encoder: random weights; 13 windows an epoch, 0 series with hard negatives") == 2


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


@pytest.fixture(scope="module")
def evaluated(folder) -> tuple[str, pd.DataFrame]:
    """What eval_stage1.py --series prints, and the table that it writes."""
    with redirect_stdout(StringIO()) as said:
        call(eval_stage1, folder, folder / "model", "--series", "--sync", str(folder / "copies"))
    return said.getvalue(), pd.read_csv(ModelPaths(folder / "model", ENCODER).oof_stage1_csv)


def test_copies_lie_as_the_files_themselves_do(folder, evaluated):
    own, copies = (ModelPaths(folder / name, ENCODER) for name in ("model", "copies"))
    for file in (own.stage1(0), own.stage1(1), own.oof_stage1_csv):
        assert (copies.root / file.relative_to(own.root)).read_bytes() == file.read_bytes()


FOLD_OF = {uid: fold for uid, fold, *_ in HEADS}
LOCALIZED = {uid: index for uid, _, _, _, location, index, *_ in HEADS if location}


def test_evaluation_tells_windows_and_series_and_keeps_what_was_said_of_each_window(evaluated):
    said, table = evaluated
    for words in ("windows of spots, fold 0, 1\n20 cases", "Weighted score", "modality MRI T2", "plane sagittal",
                  "peak of the location's heatmap", "maximum over the slices of a series, fold 0, 1; 1 series not in",
                  "7 cases", "FROC: peaks of the heatmaps within 10 mm", "oof_stage1.csv"):  # fmt: skip
        assert words in said, words
    assert (table.fold == table.SeriesInstanceUID.map(FOLD_OF)).all()
    expected = {(uid, i) for uid, slices in NEGATIVE_SLICES.items() for i in slices} | set(LOCALIZED.items())
    assert set(zip(table.SeriesInstanceUID, table.slice, strict=True)) == expected and len(table) == len(expected)
    assert table[list(LABELS)].to_numpy().min() > 0 and table[list(LABELS)].to_numpy().max() < 1


@pytest.fixture(scope="module")
def mined(folder) -> pd.DataFrame:
    """Every slice that may be one: threshold 0, safe_mm 20, and s2 barred by a localizer that has no place."""
    errors = folder / "data" / "localizer_errors.csv"
    pd.DataFrame({"SeriesInstanceUID": ["s2"], "error": ["no image"]}).to_csv(errors, index=False)
    call(mine_hard_negatives, folder, folder / "model", "--threshold", "0")
    return pd.read_parquet(folder / "data" / "hard_negatives.parquet")


def test_hard_negatives_are_slices_far_from_any_localizer_judged_by_the_model_that_has_not_seen_them(mined, evaluated):
    expected = {
        (uid, i)
        for uid in FOLD_OF.keys() - {"s2", "missing"}
        for i in range(N_SLICES)
        if uid not in LOCALIZED or abs(i - LOCALIZED[uid]) * SLICE_MM >= 20
    }
    assert len(expected) == 6 + 6 + 16 + 5 + 5  # s0, s1, s3, s4 and s5: slices 7 or more from the localizer's
    assert set(zip(mined.SeriesInstanceUID, mined.slice, strict=True)) == expected and len(mined) == len(expected)
    assert (mined.fold == mined.SeriesInstanceUID.map(FOLD_OF)).all()
    # A slice that is a spot too has the probability that its fold's model gave it in the evaluation.
    both = mined.merge(evaluated[1], on=["SeriesInstanceUID", "slice"])
    assert len(both) == 12  # all negative spots but those of s2
    np.testing.assert_allclose(both.probability, both["Aneurysm Present"], atol=1e-5)


def test_fewer_slices_are_asked_about_and_a_threshold_leaves_out_the_less_probable(folder, mined, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "data")
    threshold = float(mined.probability.median())
    call(mine_hard_negatives, tmp_path, folder / "model", "--threshold", str(threshold), "--every_mm", "12")
    found = pd.read_parquet(tmp_path / "data" / "hard_negatives.parquet")
    sampled = mined[mined.slice.isin([0, 4, 8, 12, 15])]  # at 0, 12, 24, 36 mm, and the last for 48 mm
    expected = sampled[sampled.probability >= threshold]
    assert found[["SeriesInstanceUID", "slice"]].to_numpy().tolist() == (
        expected[["SeriesInstanceUID", "slice"]].to_numpy().tolist()
    )
    assert 0 < len(expected) < len(sampled)


def test_a_second_round_trains_with_hard_negatives_and_its_model_says_later_what_it_said_then(
    folder, mined, tmp_path, monkeypatch, capsys
):
    told, scores = [], HeldOut.scores
    monkeypatch.setattr(HeldOut, "scores", lambda self, answers: told.append(answers) or scores(self, answers))
    call(train_stage1, folder, tmp_path, "--fold", "0", "--training.epochs", "1")
    assert "13 windows an epoch, 3 series with hard negatives" in capsys.readouterr().out  # s1, s3 and s5
    call(eval_stage1, folder, tmp_path, "--fold", "0")
    table = pd.read_csv(ModelPaths(tmp_path, ENCODER).oof_stage1_csv)
    np.testing.assert_allclose(table[list(LABELS)], told[-1].probability, atol=1e-6)
    assert set(table.fold) == {0}


def test_resuming_a_finished_run_changes_nothing(folder, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    call(train_stage1, folder, tmp_path / "model", "--resume", "--fold", "0")
    pd.testing.assert_frame_equal(history(tmp_path / "model", 0), history(folder / "model", 0))
    before, after = (load_checkpoint(ModelPaths(place, ENCODER).stage1(0))["weights"]
                     for place in (folder / "model", tmp_path / "model"))  # fmt: skip
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_of_all_series_has_no_score_and_is_asked_about_none_of_them(folder, tmp_path):
    call(train_stage1, folder, tmp_path, "--train_on_all", "--training.epochs", "1")
    paths = ModelPaths(tmp_path, ENCODER)
    assert [path.name for path in paths.folder.glob("[!.]*")] == ["fold-none"]
    assert "score" not in history(tmp_path, None)
    assert load_checkpoint(paths.stage1(None))["config"]["fold"] is None
    shutil.copytree(paths.fold(None), paths.fold(0))
    with pytest.raises(ValueError, match="last.pth: expected a model that has not seen fold 0"):
        call(eval_stage1, folder, tmp_path)


@pytest.mark.parametrize("script", [eval_stage1, mine_hard_negatives])
def test_a_model_is_not_asked_about_a_fold_that_it_has_seen(folder, tmp_path, script):
    shutil.copytree(ModelPaths(folder / "model", ENCODER).fold(0), ModelPaths(tmp_path, ENCODER).fold(1))
    with pytest.raises(
        ValueError, match="fold-1/last.pth: expected a model that has not seen fold 1, found one without fold 0"
    ):
        call(script, folder, tmp_path)


@pytest.mark.parametrize(
    ("script", "args", "words"),
    [
        (train_stage1, ["--data_dir", "{empty}"], "train_stage1_2_folds.csv: not there"),
        (train_stage1, ["--hard_negatives", "{empty}/none.parquet"], "none.parquet: not there; mine_hard_negatives.py"),
        (train_stage1, ["--fold", "7"], "fold 7: expected a number below 2, or all"),
        (train_stage1, ["--encoder", "no_such_net"], "encoder no_such_net: timm"),
        (train_stage1, ["--encoder_weights", "{empty}/w.pth"], "w.pth: expected none, timm"),
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
