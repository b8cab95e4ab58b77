"""A tiny training run for tests, as a script: torchrun and a killer need a process of its own.

python tests/small_training.py FOLDER [--resume] [--epochs N] [--pause SECONDS] [--workers N]
       [--killed_at STEP] [--nan_at STEP]
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext, end_distributed, init_distributed
from aneurysm.training.engine import fit

N_TRAIN, N_HELD_OUT = 64, 200


class Points(Dataset):
    """Noisy 6-vectors, labelled by whether the first two numbers have one sign; noise depends on epoch and sample."""

    def __init__(self, n: int, seed: int):
        rng = np.random.default_rng(seed)
        self.points = rng.normal(size=(n, 6)).astype(np.float32)
        self.labels = (self.points[:, 0] * self.points[:, 1] > 0).astype(np.float32)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, i = key
        noise = np.random.default_rng([epoch, i]).normal(0, 0.1, 6).astype(np.float32)
        return {"x": torch.from_numpy(self.points[i] + noise), "y": torch.tensor(self.labels[i])}


def make_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 24), nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, 1))


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(model(batch["x"])[:, 0], batch["y"])


def again() -> bool:
    """Whether a launcher has started this process before."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


class DisturbedLoss:
    """The loss; in the process of the highest rank, something happens in its nth call, counted from 1.

    `killed_at` ends the process, unless a launcher has started it again; `nan_at` makes the loss a NaN.
    """

    def __init__(self, world: DistContext, killed_at: int, nan_at: int):
        self.last, self.killed_at, self.nan_at = world.rank == world.size - 1, 0 if again() else killed_at, nan_at
        self.n = 0

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.n += 1
        if self.last and self.n == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        value = loss(model, batch)
        return value * math.nan if self.last and self.n == self.nan_at else value


def train(
    folder: Path,
    config: TrainingConfig,
    world: DistContext,
    resume: bool = False,
    pause: float = 0.0,
    killed_at: int = 0,
    nan_at: int = 0,
) -> dict:
    held_out = Points(N_HELD_OUT, seed=1)

    def evaluate(model: nn.Module) -> dict[str, float]:
        """Each process scores its share; all compute the AUC of all."""
        own = slice(world.rank, None, world.size)
        with torch.no_grad():
            scores = model(torch.from_numpy(held_out.points[own]))[:, 0].numpy()
        labels = world.gather(held_out.labels[own])
        time.sleep(pause)
        return {"score": float(roc_auc_score(labels, world.gather(scores)))}

    own = DisturbedLoss(world, killed_at, nan_at)
    return fit(make_model(), Points(N_TRAIN, seed=0), own, evaluate, config, folder, world, resume=resume)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--killed_at", type=int, default=0)
    parser.add_argument("--nan_at", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainingConfig(
        epochs=args.epochs, batch_size=16, lr=0.02, ema_decay=0.9, workers=args.workers, precision="fp32",
        skip_nan=args.nan_at > 0,
    )  # fmt: skip
    if args.killed_at and again() and os.environ["RANK"] == "1":
        time.sleep(3)  # the launcher still knows where this process was to be found before it was killed
    train(args.folder, config, init_distributed("cpu"), args.resume, args.pause, args.killed_at, args.nan_at)
    end_distributed()


if __name__ == "__main__":
    main()
