"""What goes wrong while training: non-finite losses, too little memory."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.config import TrainingConfig
from aneurysm.training.data import EpochBatches
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit
from aneurysm.training.state import start_run
from aneurysm.training.train_step import TrainStep, pieces
from tests.small_training import Points, loss

pytestmark = pytest.mark.usefixtures("quick_pictures")

ROOT = Path(__file__).parents[2]
ALONE = DistContext(0, 1, torch.device("cpu"))
CONFIG = TrainingConfig(epochs=2, batch_size=16, lr=0.02, ema_decay=0.9, workers=0, precision="fp32")


class NamedPoints(Points):
    """Each sample is a series of its own."""

    def name_of(self, key: tuple[int, int]) -> str:
        return f"1.2.{key[1]}"

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        return super().__getitem__(key) | {"number": torch.tensor(key[1])}


class Disturbed:
    """The loss, changed by `how` in some of its calls, counted from 1; it keeps numbers, values and weights of each."""

    def __init__(self, how: Callable[[torch.Tensor, nn.Module], torch.Tensor], *calls: int):
        self.how, self.calls, self.numbers, self.values, self.weights = how, calls, [], [], []

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.weights.append(model[0].weight.detach().clone())
        self.numbers.append(batch["number"].tolist())
        x = batch["x"].clone()
        if len(self.numbers) in self.calls:
            x = x * math.nan if self.how is nan_input else x
        value = loss(model, batch | {"x": x})
        if len(self.numbers) in self.calls:
            value = self.how(value, model)
        self.values.append(value.item())
        return value


def nan_input(value: torch.Tensor, model: nn.Module) -> torch.Tensor:
    return value


def nan_loss(value: torch.Tensor, model: nn.Module) -> torch.Tensor:
    return value * math.nan


def nan_gradient(value: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """The slope of a root is infinite at 0, and there are weights times 0 below it."""
    return value + (model[0].weight * 0).sum().sqrt()


class Short:
    """The loss, on a device whose memory holds so many samples at once; `sizes` are those of each call."""

    def __init__(self, at_most: int):
        self.at_most, self.sizes = at_most, []

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.sizes.append(len(batch["x"]))
        value = loss(model, batch)
        if len(batch["x"]) > self.at_most:
            value.backward()  # gradients that must not count
            raise torch.OutOfMemoryError("made up")
        return value


def train(
    folder: Path, own_loss: Callable, config: TrainingConfig = CONFIG, resume: bool = False,
    norm: nn.Module | None = None,
) -> nn.Module:  # fmt: skip
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 24), norm or nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 1))
    fit(model, NamedPoints(64, 0), own_loss, lambda trained: {}, config, folder, ALONE, resume=resume)
    return model


@pytest.mark.parametrize("how", [nan_loss, nan_input, nan_gradient])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_or_gradient_that_is_no_number_ends_the_run_and_names_the_series(tmp_path, how, accumulate):
    own = Disturbed(how, 7 * accumulate)  # the last part of the third step of the second epoch
    with pytest.raises(ValueError) as error:
        train(tmp_path, own, replace(CONFIG, accumulate=accumulate))
    text = str(error.value)
    assert text.startswith("epoch 2, step 3 of 4: the ") and "--training.skip_nan" in text
    n = 7 * accumulate
    to_blame = own.numbers[n - accumulate : n] if how is nan_gradient else own.numbers[n - 1 : n]
    named = text.split("of ")[2].split(". A lower")[0].split(", ")
    assert named == [f"1.2.{number}" for part in to_blame for number in part]
    state = load_checkpoint(tmp_path / "resume.pth")["run"]
    assert state["epoch"] == 1 and all(tensor.isfinite().all() for tensor in state["model"].values())


def test_it_is_noticed_some_steps_later_but_not_only_at_the_end_of_the_epoch(tmp_path):
    own = Disturbed(nan_loss, 3)
    with pytest.raises(ValueError, match="epoch 1, step 3 of 32: the loss is nan, of 1.2"):
        train(tmp_path, own, replace(CONFIG, batch_size=2))
    assert len(own.numbers) == 16


def test_what_a_signal_has_kept_is_never_a_ruined_model(tmp_path):
    def value_and_signal(value: torch.Tensor, model: nn.Module) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return value * math.nan

    with pytest.raises(ValueError, match="epoch 2, step 2 of 4: the loss is nan"):
        train(tmp_path, Disturbed(value_and_signal, 6))
    assert load_checkpoint(tmp_path / "resume.pth")["run"]["step"] == 4


@pytest.mark.parametrize("how", [nan_loss, nan_input, nan_gradient])
def test_such_a_step_is_left_out_where_asked_for_and_said_and_counted(tmp_path, capsys, how):
    own = Disturbed(how, 3, 5)
    model = train(tmp_path, own, replace(CONFIG, skip_nan=True))
    same = [torch.equal(one, other) for one, other in zip(own.weights, own.weights[1:], strict=False)]
    assert same == [False, False, True, False, True, False, False]  # the third and fifth steps changed nothing
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())  # batch norms' statistics, too
    history = pd.read_csv(tmp_path / "history.csv")
    counted = [own.values[i] for i in (0, 1, 3, 5, 6, 7)]
    assert history.loss.tolist() == pytest.approx([sum(counted[:3]) / 3, sum(counted[3:]) / 3])
    assert history.skipped.tolist() == [1, 1]
    output = capsys.readouterr().out
    assert "left out: epoch 1, step 3 of 4: the " in output and f"1.2.{own.numbers[2][0]}, 1.2." in output
    assert "epoch 2: 1 of 4 steps were left out" in output


def test_an_epoch_of_which_nothing_counts_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="epoch 1: 4 of 4 steps were left out"):
        train(tmp_path, Disturbed(nan_loss, *range(9)), replace(CONFIG, skip_nan=True))


def test_infinite_gradients_of_float16_are_the_scalers_business(tmp_path):
    config = replace(CONFIG, precision="fp16")
    model = train(tmp_path, Disturbed(nan_gradient, 2), config)  # the scaler leaves out this step by itself
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_several_processes_leave_out_the_same_step_where_one_has_such_a_loss(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1",
                                "MASTER_PORT": str(20000 + os.getpid() % 20000), "WORLD_SIZE": "2"}  # fmt: skip
    command = [sys.executable, "tests/small_training.py", str(tmp_path), "--epochs", "2", "--nan_at", "6"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment | {"RANK": rank}, stdout=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    output = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "left out: epoch 2, step 2 of 4: the loss is nan, of sample " in output[0] and output[1] == ""
    assert pd.read_csv(tmp_path / "history.csv").skipped.tolist() == [0, 1]
    saved = load_checkpoint(tmp_path / "last.pth")
    assert all(tensor.isfinite().all() for tensor in saved["weights"].values())


@pytest.mark.parametrize(("at_most", "sizes"), [(8, [16, 8]), (7, [16, 8, 4]), (1, [16, 8, 4, 2, 1])])
def test_out_of_memory_smaller_parts_give_what_accumulating_them_gives(tmp_path, capsys, at_most, sizes):
    short, fitted = Short(at_most), sizes[-1]
    train(tmp_path / "short", short, norm=nn.LayerNorm(24))
    assert short.sizes == sizes[:-1] + [fitted] * (16 // fitted) * 8  # 8 steps: it is not tried again with more
    config = replace(CONFIG, accumulate=16 // fitted)
    train(tmp_path / "accumulated", loss, config, norm=nn.LayerNorm(24))
    expected, found = (load_checkpoint(tmp_path / name / "last.pth")["weights"] for name in ("accumulated", "short"))
    assert all(torch.allclose(expected[name], found[name], atol=1e-7) for name in expected)
    one, two = (pd.read_csv(tmp_path / name / "history.csv").loss for name in ("accumulated", "short"))
    assert two.tolist() == pytest.approx(one.tolist(), abs=1e-6)
    output = capsys.readouterr().out
    assert f"epoch 1, step 1 of 4: out of memory; from now on {fitted} samples at once" in output
    assert f"--training.accumulate {16 // fitted}\n" in output


def test_pieces_of_unequal_size_count_by_their_samples():
    parts = list(pieces({"x": torch.arange(3), "y": torch.arange(3) * 2}, 2))
    assert [(piece["x"].tolist(), piece["y"].tolist()) for piece, _ in parts] == [([0, 1], [0, 2]), ([2], [4])]
    assert [share for _, share in parts] == pytest.approx([2 / 3, 1 / 3])


def test_out_of_memory_with_one_sample_ends_the_run_and_says_what_to_lower(tmp_path):
    with pytest.raises(
        ValueError, match="epoch 1, step 1 of 4: out of memory with one sample at once; expected a smal"
    ):
        train(tmp_path, Short(0), norm=nn.LayerNorm(24))


def test_one_of_several_processes_that_is_out_of_memory_names_the_setting(tmp_path):
    model, pair = nn.Sequential(nn.Linear(6, 1)), DistContext(1, 2, torch.device("cpu"))
    run = start_run(model, CONFIG, 4, ALONE)
    steps = TrainStep(run, model, Short(4), CONFIG, EpochBatches(64, 16, 1, pair, 0), str)
    part = {name: torch.zeros(8, *shape) for name, shape in (("x", (6,)), ("y", ()))}
    with pytest.raises(
        ValueError, match="out of memory with 8 samples at once in each process; expected --training.acc"
    ):
        steps([[(0, i) for i in range(8)]], [part])


def test_a_second_run_in_a_folder_is_refused_and_leaves_the_first_one_alone(tmp_path):
    def second(_: nn.Module) -> dict[str, float]:
        with pytest.raises(ValueError, match="expected no other run of train-run, found one: process"):
            fit(nn.Linear(6, 1), Points(64, 1), loss, lambda model: {}, CONFIG, tmp_path / "run", ALONE)
        return {}

    fit(nn.Linear(6, 1), Points(64, 1), loss, second, CONFIG, tmp_path / "run", ALONE)
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == CONFIG.epochs
    fit(nn.Linear(6, 1), Points(64, 1), loss, lambda model: {}, CONFIG, tmp_path / "run", ALONE)  # free again
