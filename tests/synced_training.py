"""A tiny training run with copies, for tests: it can be killed when a certain epoch has been copied."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import torch

from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit
from tests.small_training import Points, loss, make_model

ALONE = DistContext(0, 1, torch.device("cpu"))


class Killed(Exception):
    pass


def nothing(epoch: int) -> None:
    pass


def folder_of(machine: Path) -> Path:
    return machine / "encoder" / "fold-0"


def train(machine: Path, url: str, resume: bool = False, at: Callable[[int], None] = nothing, seed: int = 0) -> int:
    """Trains and returns for how many epochs; `at` is told the number of each before its files are written."""
    n = 0

    def evaluate(model: torch.nn.Module) -> dict[str, float]:
        nonlocal n
        n += 1
        at(n)
        return {"score": float(next(model.parameters()).detach().abs().sum())}

    config = TrainingConfig(
        epochs=6, batch_size=16, lr=0.02, ema_decay=0.9, workers=0, precision="fp32", sync=url, seed=seed
    )
    fit(make_model(), Points(64, 0), loss, evaluate, config, folder_of(machine), ALONE, resume=resume)
    return n


def kill_after(n: int, url: str) -> Callable[[int], None]:
    """Ends a run in the epoch after its nth, when the copy of the nth is there."""

    def at(epoch: int) -> None:
        if epoch == n + 1:
            if url:
                wait_for(lambda: epoch_there(url) == n)
            raise Killed

    return at


def epoch_there(url: str) -> int:
    path = f"{url}/encoder/fold-0/sync.json"
    store, path = fsspec.url_to_fs(path)
    return json.loads(store.cat_file(path))["epoch"] if store.exists(path) else 0


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def weights(machine: Path, name: str = "last.pth") -> dict[str, torch.Tensor]:
    return load_checkpoint(folder_of(machine) / name)["weights"]


def assert_equal_weights(one: Path, other: Path) -> None:
    for name in ("last.pth", "best.pth"):
        expected, found = weights(one, name), weights(other, name)
        assert expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)
