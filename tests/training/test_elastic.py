"""torchrun starts a run again whose process was killed: it goes on by itself, to the same end."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from tests.small_training import train

ROOT = Path(__file__).parents[2]
CONFIG = TrainingConfig(epochs=3, batch_size=16, lr=0.02, ema_decay=0.9, workers=0, precision="fp32")


def test_a_killed_process_of_two_is_started_again_and_the_run_ends_as_an_undisturbed_one(tmp_path):
    """One of two processes dies in the third step of the second epoch; --resume stands in the command from the start,
    when there is nothing to be resumed."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max_restarts=1"]
    command = ["tests/small_training.py", str(tmp_path / "killed"), "--epochs", "3", "--resume", "--killed_at", "7"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run([*launcher, *command], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "exitcode: -9" in result.stderr
    train(tmp_path / "whole", CONFIG, DistContext(0, 1, torch.device("cpu")))
    whole, killed = (load_checkpoint(tmp_path / name / "last.pth") for name in ("whole", "killed"))
    assert whole["epoch"] == killed["epoch"] == 3
    for name, expected in whole["weights"].items():
        assert torch.allclose(expected, killed["weights"][name], atol=1e-4)
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("whole", "killed"))
    assert two.epoch.tolist() == [1, 2, 3] and np.abs(one.loss - two.loss).max() < 1e-4
