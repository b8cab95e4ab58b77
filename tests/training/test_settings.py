"""Settings that make no sense, runs resumed with other ones, files that are damaged or missing: each is named."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import train_stage2
from aneurysm.config import run_script
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths, trained_folds
from aneurysm.stage2.predict import load_stage2
from aneurysm.training.checkpoint import load_checkpoint, save_state
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit
from aneurysm.training.folder import check_settings
from tests.small_training import Points, loss, make_model
from volume3d import evaluate as volume3d_evaluate

pytestmark = pytest.mark.usefixtures("quick_pictures")

ALONE = DistContext(0, 1, torch.device("cpu"))
CONFIG = TrainingConfig(epochs=2, batch_size=16, lr=0.02, ema_decay=0.9, workers=0, precision="fp32")


def train(folder: Path, config: TrainingConfig = CONFIG, n: int = 64, about: dict | None = None, resume=True) -> None:
    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"score": 0.5}

    fit(make_model(), Points(n, 0), loss, evaluate, config, folder, ALONE, about, resume)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("evaluate_every", 0, "1 or more, found 0"),
        ("epochs", 0, "1 or more"),
        ("batch_size", -4, "1 or more, found -4"),
        ("accumulate", 0, "1 or more"),
        ("workers", -1, "0 or more"),
        ("warmup_epochs", -1, "0 or more"),
        ("lr", 0.0, "a number above 0, found 0.0"),
        ("lr", math.nan, "a number above 0, found nan"),
        ("lr", math.inf, "a number above 0"),
        ("weight_decay", -0.1, "a number from 0 on"),
        ("clip_norm", -1.0, "a number from 0 on"),
        ("ema_decay", 1.0, "a number from 0 on, below 1"),
        ("plateau_factor", 1.0, "a number between 0 and 1"),
        ("precision", "fp8", "one of auto, bf16, fp16, fp32, found fp8"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(name, value, words):
    with pytest.raises(ValueError, match=rf"^training\.{name}: expected {words}"):
        replace(CONFIG, **{name: value})


def test_on_the_command_line_it_is_one_line_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train_stage2.py", "--data_dir", str(tmp_path), "--training.evaluate_every", "0"])
    with pytest.raises(SystemExit) as stop:
        run_script(train_stage2.main, train_stage2.TrainStage2Config, train_stage2.__doc__)
    assert stop.value.code == "error: training.evaluate_every: expected 1 or more, found 0"


def test_a_run_is_not_resumed_with_settings_that_lead_elsewhere_and_they_are_named(tmp_path):
    about = {"stage1": {"encoder": "one", "input": {"crop": (0.1, 0.9)}}, "fold": 0}
    train(tmp_path, about=about, resume=False)
    before = (tmp_path / "resume.pth").read_bytes()
    for config, n, other, words in (
        (replace(CONFIG, lr=0.01), 64, about, "expected training.lr 0.01, found 0.02. Without --resume"),
        (replace(CONFIG, epochs=3), 64, about, "expected training.epochs 3, found 2"),
        (CONFIG, 80, about, "expected n_samples 80, found 64"),
        (
            CONFIG,
            64,
            about | {"stage1": {"encoder": "two"}},
            "expected stage1.encoder two, found one; stage1.input.crop n",
        ),
        (CONFIG, 64, about | {"fold": 1}, "expected fold 1, found 0"),
    ):
        with pytest.raises(ValueError, match=f"{tmp_path}/resume.pth: cannot resume, settings differ: {words}"):
            train(tmp_path, config, n, other)
    assert (tmp_path / "resume.pth").read_bytes() == before
    train(tmp_path, about=about)


def test_how_fast_and_exactly_a_run_is_computed_may_change_on_the_way(tmp_path):
    train(tmp_path, resume=False)
    before = (tmp_path / "resume.pth").read_bytes()
    config = replace(CONFIG, accumulate=2, workers=1, precision="bf16", channels_last=False, skip_nan=True)
    train(tmp_path, config)
    assert (tmp_path / "resume.pth").read_bytes() == before  # taken up, and nothing was left to do


@pytest.mark.parametrize(("begun", "goes_on"), [("fp32", "fp16"), ("fp16", "fp32")])
def test_a_run_goes_on_where_the_device_computes_in_another_precision(tmp_path, begun, goes_on):
    """Begun in bfloat16 or float32, which need no scaler of gradients, and resumed on a GPU that has float16 alone."""
    longer = replace(CONFIG, schedule="plateau", epochs=1)
    train(tmp_path, replace(longer, precision=begun), resume=False)
    train(tmp_path, replace(longer, precision=goes_on, epochs=2))
    state = load_checkpoint(tmp_path / "resume.pth")["run"]
    assert state["epoch"] == 2 and bool(state["scaler"]) == (goes_on == "fp16")
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


@pytest.mark.parametrize(
    ("schedule", "plateau_on", "evaluate_every", "may"),
    [("plateau", "loss", 2, True), ("plateau", "score", 1, True), ("plateau", "score", 2, False),
     ("cosine", "loss", 1, False)],
)  # fmt: skip
def test_more_epochs_may_be_trained_where_the_learning_rate_does_not_know_their_number(
    schedule, plateau_on, evaluate_every, may
):
    training = {"schedule": schedule, "plateau_on": plateau_on, "evaluate_every": evaluate_every}
    messages = "" if may else r"resume.pth: .* expected training\.epochs 4, found 3\."
    with nullcontext() if may else pytest.raises(ValueError, match=messages):
        begun, now = ({"training": training | {"epochs": epochs}} for epochs in (3, 4))
        check_settings(Path("resume.pth"), begun, now)


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"no archive"]
)
def test_a_damaged_resume_file_is_named(tmp_path, damage: Callable[[bytes], bytes], sync):
    folder = tmp_path / "encoder" / "fold-0"
    train(folder, resume=False)
    (folder / "resume.pth").write_bytes(damage((folder / "resume.pth").read_bytes()))
    with pytest.raises(ValueError, match="fold-0/resume.pth: expected a checkpoint, found what cannot be read as one"):
        train(folder, replace(CONFIG, sync=str(tmp_path / "there") if sync else ""))


def test_a_resume_file_that_does_not_tell_its_settings_is_refused(tmp_path):
    train(tmp_path, resume=False)
    saved = load_checkpoint(tmp_path / "resume.pth")
    del saved["config"]
    save_state(tmp_path / "resume.pth", saved)
    with pytest.raises(ValueError, match="expected training.epochs 2, found nothing"):
        train(tmp_path)


def test_a_fold_that_was_not_trained_is_named(tmp_path):
    paths = ModelPaths(tmp_path, "encoder")
    with pytest.raises(ValueError, match="encoder: expected fold-3/last.pth, found none; has train_stage1.py run"):
        trained_folds([paths], [3], "train_stage1.py")
    with pytest.raises(ValueError, match="encoder: expected fold-3/stage2/last.pth, found none; has train_stage2"):
        trained_folds([paths], [3], "train_stage2.py")
    with pytest.raises(ValueError, match="encoder: expected fold-none/last.pth, found none; has train_stage1.py run"):
        trained_folds([paths], [None], "train_stage1.py")
    with pytest.raises(ValueError, match="encoder: expected fold-3/last.pth, found none; has volume3d.train run"):
        volume3d_evaluate.evaluate_folds(None, paths, [3], ALONE)
    with pytest.raises(ValueError, match="encoder: expected fold-<k>/last.pth, found none"):
        trained_folds([paths], [0, 1], "train_stage1.py")


def test_a_stage_2_whose_weights_are_of_another_network_is_named(tmp_path):
    about = {"stage2": {"net": {"width": 16, "depth": 1, "heads": 2}}, "fold": 0, "n_features": 4}
    save_state(tmp_path / "last.pth", {"weights": {}, "labels": list(LABELS), "config": about})
    with pytest.raises(ValueError, match=r"last\.pth: Error\(s\) in loading"):
        load_stage2(tmp_path / "last.pth", unseen=0)
