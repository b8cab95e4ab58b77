"""What a run reports beside its CSV: to TensorBoard and Weights & Biases, which these tests stand in for."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aneurysm.training import tracking
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit
from aneurysm.training.tracking import Tracker
from tests.small_training import Points, loss, make_model

SEEN = {"activations/stem/mean": 1.5, "activations/stem/histogram": (np.array([2.0, 6.0]), np.array([0.0, 1.0, 3.0]))}


class Recorder:
    """Keeps every call."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args, **settings: self.calls.append((name, args, settings))

    def of(self, name: str) -> list:
        return [(args, settings) for called, args, settings in self.calls if called == name]


@pytest.fixture
def board(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(tracking, "_tensorboard", lambda folder: recorder)
    return recorder


@pytest.fixture
def wandb(monkeypatch) -> Recorder:
    recorder = Recorder()
    module = SimpleNamespace(init=lambda **_: recorder, Histogram=lambda np_histogram: ("histogram", np_histogram))
    monkeypatch.setitem(sys.modules, "wandb", module)
    return recorder


def test_tensorboard_gets_numbers_and_histograms_of_a_step(tmp_path, board):
    Tracker(tmp_path, [], tensorboard=True, wandb=False, config={}).report_step(50, SEEN)
    assert board.of("add_scalar") == [(("activations/stem/mean", 1.5, 50), {})]
    (((name,), messages),) = board.of("add_histogram_raw")
    assert name == "activations/stem/histogram" and messages["global_step"] == 50
    assert (messages["min"], messages["max"], messages["num"]) == (0, 3, 8)
    assert messages["bucket_limits"] == [1, 3] and messages["bucket_counts"] == [2, 6]
    assert messages["sum"] == 2 * 0.5 + 6 * 2 and messages["sum_squares"] == 2 * 0.25 + 6 * 4  # of the bins' middles


def test_rows_of_epochs_and_of_steps_stand_in_one_log_of_weights_and_biases(tmp_path, wandb):
    tracker = Tracker(tmp_path, [], tensorboard=False, wandb=True, config={})
    tracker.report_step(50, SEEN)
    tracker.report({"epoch": 1, "loss": 0.5})
    (first, _), (second, _) = wandb.of("log")
    histogram = ("histogram", SEEN["activations/stem/histogram"])
    assert first[0] == {"activations/stem/mean": 1.5, "activations/stem/histogram": histogram, "optimizer_step": 50}
    assert second[0] == {"epoch": 1, "loss": 0.5}
    axes = {args[0]: settings["step_metric"] for args, settings in wandb.of("define_metric")}
    assert axes == {"*": "epoch", "activations/*": "optimizer_step"}


def test_the_loop_asks_after_every_optimizer_step_and_passes_on_what_was_seen(tmp_path, board):
    asked = []

    def observe(step: int) -> dict:
        asked.append(step)
        return {"a": float(step)} if step % 3 == 0 else {}

    config = TrainingConfig(epochs=2, batch_size=16, accumulate=2, workers=0, precision="fp32", tensorboard=True)
    fit(make_model(), Points(64, 0), loss, lambda model: {}, config, tmp_path, DistContext(0, 1, torch.device("cpu")),
        observe=observe)  # fmt: skip
    assert asked == list(range(1, 9))  # 64 samples, 16 a step, two epochs
    assert [args for args, _ in board.of("add_scalar") if args[0] == "a"] == [("a", 3.0, 3), ("a", 6.0, 6)]
