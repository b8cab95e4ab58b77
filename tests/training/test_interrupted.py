"""A signal in the middle of a run: what is kept, how the program ends, and that the run goes on from exactly there."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from aneurysm.training import interrupt as interrupt_module
from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit
from aneurysm.training.interrupt import Interrupt, Interrupted
from tests.small_training import Points, loss

pytestmark = pytest.mark.usefixtures("quick_pictures")

ROOT = Path(__file__).parents[2]
ALONE = DistContext(0, 1, torch.device("cpu"))
CONFIG = TrainingConfig(epochs=3, batch_size=16, accumulate=2, lr=0.02, ema_decay=0.9, workers=0, precision="fp32")
N_PARTS = 8  # of an epoch: 64 samples


def nothing(n: int) -> None:
    pass


def at(number: int, signum: int = signal.SIGTERM) -> Callable[[int], None]:
    """Sends this process a signal at the call of that number."""
    return lambda n: os.kill(os.getpid(), signum) if n == number else None


def train(folder: Path, config: TrainingConfig = CONFIG, resume: bool = False, part=nothing, evaluation=nothing) -> int:
    """Trains a model with dropout; `part` and `evaluation` are told their number, from 1. The number of parts."""
    n_parts = n_evaluations = 0

    def told_loss(model: nn.Module, batch: dict) -> torch.Tensor:
        nonlocal n_parts
        n_parts += 1
        part(n_parts)
        return loss(model, batch)

    def evaluate(model: nn.Module) -> dict[str, float]:
        nonlocal n_evaluations
        n_evaluations += 1
        evaluation(n_evaluations)
        torch.rand(3)  # evaluations may draw random numbers
        return {"score": float(next(model.parameters()).detach().abs().sum())}

    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 24), nn.Dropout(0.3), nn.ReLU(), nn.Linear(24, 1))
    fit(model, Points(64, 0), told_loss, evaluate, config, folder, ALONE, resume=resume)
    return n_parts


def assert_alike(one: Path, other: Path) -> None:
    for name in ("last.pth", "best.pth"):
        expected, found = (load_checkpoint(folder / name) for folder in (one, other))
        assert expected["epoch"] == found["epoch"]
        assert all(torch.equal(expected["weights"][key], found["weights"][key]) for key in expected["weights"])
    messages = [
        pd.read_csv(folder / "history.csv").drop(columns=["samples_per_s", "wait_share"]) for folder in (one, other)
    ]
    pd.testing.assert_frame_equal(*messages)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train(folder) == 3 * N_PARTS
    return folder


@pytest.mark.parametrize(
    ("signum", "code", "part", "steps"),
    [
        (signal.SIGTERM, 143, 11, 6),  # the first part of the sixth step
        (signal.SIGINT, 130, 12, 6),
        (signal.SIGUSR1, 138, 16, 8),  # the last part of the second epoch
        (signal.SIGTERM, 143, 1, 1),
    ],
)
def test_a_signal_ends_the_run_after_the_step_and_it_goes_on_from_there(
    tmp_path, undisturbed, capsys, signum, code, part, steps
):
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, part=at(part, signum))
    assert stop.value.code == code
    text = (
        f"{signal.Signals(signum).name}: stopped after {(steps - 1) // 4} epochs and {(steps - 1) % 4 + 1} of 4 steps"
    )
    assert f"{text}; {tmp_path / 'resume.pth'}" in capsys.readouterr().out
    whole = (steps - 1) // 4
    assert load_checkpoint(tmp_path / "resume.pth")["run"]["step"] == steps
    if whole:
        assert (
            load_checkpoint(tmp_path / "last.pth")["epoch"] == whole
            and len(pd.read_csv(tmp_path / "history.csv")) == whole
        )
    else:
        assert not (tmp_path / "last.pth").exists()
    assert train(tmp_path, resume=True) == 2 * (12 - steps)
    assert_alike(undisturbed, tmp_path)


def test_a_run_that_is_stopped_twice_in_one_epoch_with_worker_processes_ends_alike(tmp_path, undisturbed):
    config = replace(CONFIG, workers=1)
    for resume in (False, True):
        with pytest.raises(Interrupted):
            train(tmp_path, config, resume, part=at(2))
    assert train(tmp_path, config, resume=True) == 3 * N_PARTS - 4
    assert_alike(undisturbed, tmp_path)


def test_an_evaluation_is_broken_off_and_done_again(tmp_path, undisturbed):
    ended = []

    def evaluation(number: int) -> None:
        at(2)(number)
        ended.append(number)

    with pytest.raises(Interrupted):
        train(tmp_path, evaluation=evaluation)
    assert ended == [1] and load_checkpoint(tmp_path / "last.pth")["epoch"] == 1
    assert train(tmp_path, resume=True) == N_PARTS, "the second epoch is not trained again"
    assert_alike(undisturbed, tmp_path)


def test_a_signal_while_the_last_files_are_written_ends_the_program_but_nothing_is_left_to_do(
    tmp_path, undisturbed, monkeypatch
):
    from aneurysm.training.folder import RunFolder

    close = RunFolder.close
    monkeypatch.setattr(RunFolder, "close", lambda self: (os.kill(os.getpid(), signal.SIGTERM), close(self)))
    with pytest.raises(Interrupted):
        train(tmp_path)
    monkeypatch.undo()
    assert train(tmp_path, resume=True) == 0
    assert_alike(undisturbed, tmp_path)


def test_a_run_that_was_stopped_in_its_first_epoch_goes_on_from_its_copies(tmp_path, undisturbed):
    config = replace(CONFIG, sync=str(tmp_path / "there"))
    with pytest.raises(Interrupted):
        train(tmp_path / "old" / "encoder" / "fold-0", config, part=at(3))
    folder = tmp_path / "new" / "encoder" / "fold-0"
    with pytest.raises(Interrupted):
        train(folder, config, resume=True, part=at(N_PARTS - 4 + 1))  # the first part of the second epoch
    assert load_checkpoint(folder / "resume.pth")["run"]["step"] == 5
    folder = tmp_path / "newest" / "encoder" / "fold-0"
    assert train(folder, config, resume=True) == 3 * N_PARTS - 10
    assert_alike(undisturbed, folder)


def test_a_second_signal_ends_the_process_at_once_but_not_an_echo_of_the_first(monkeypatch):
    for echo_s, status in ((0.0, signal.SIGTERM), (60.0, 3 << 8)):
        child = os.fork()
        if child == 0:
            interrupt_module.ECHO_S = echo_s
            with Interrupt():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(3)
        assert os.waitpid(child, 0)[1] == status


def test_afterwards_and_in_other_threads_signals_do_what_they_did():
    before = [signal.getsignal(number) for number in interrupt_module.SIGNALS]
    with Interrupt():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    thread = threading.Thread(target=lambda: Interrupt().__enter__())
    thread.start()
    thread.join()
    assert [signal.getsignal(number) for number in interrupt_module.SIGNALS] == before


def test_under_torchrun_all_processes_stop_at_one_step_and_their_workers_do_not_fall_before(tmp_path):
    """The launcher passes a signal on to each process and to the processes that prepare its batches."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, "tests/small_training.py", str(tmp_path), "--workers", "1", "--epochs", "4000"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / "resume.pth").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    state = load_checkpoint(tmp_path / "resume.pth")["run"]
    n_steps = state["step"] - 4 * state["epoch"]
    assert f"SIGTERM: stopped after {state['epoch']} epochs and {n_steps} of 4 steps" in output
    assert state["random"]["cpu"].shape[0] == 2 and process.returncode != 0
