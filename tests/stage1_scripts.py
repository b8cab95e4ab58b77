"""The scripts of stage 1, called in this process on a few small heads, and what they have trained there."""

from __future__ import annotations

from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import pandas as pd
import yaml

import eval_stage1
import mine_hard_negatives
import train_stage1
from aneurysm.config import parse_config
from aneurysm.paths import ModelPaths
from tests.stage1_cache import write_data

ENCODER = "test_convnext"  # timm's smallest; no batch norm: two processes see what one sees
PRESET = {
    "encoder": ENCODER, "weights": "none", "device": "cpu", "folds": 2, "fold": "all",
    "input": {"image_size": 64}, "heads": {"neck_width": 16, "drop_rate": 0.0},
    "sampling": {"positive_repeats": 2},
    "training": {"epochs": 2, "batch_size": 4, "workers": 0, "precision": "fp32", "ema_decay": 0.5, "lr": 1e-3},
}  # fmt: skip
SCRIPTS = {
    train_stage1: train_stage1.TrainStage1Config,
    eval_stage1: eval_stage1.EvalStage1Config,
    mine_hard_negatives: mine_hard_negatives.MineConfig,
}


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


def train_both_folds(folder: Path) -> None:
    """data/, preset.yaml, and model/ with what one process has trained for each fold; said.txt is what it said."""
    (folder / "data").mkdir()
    write_data(folder / "data")
    (folder / "preset.yaml").write_text(yaml.safe_dump(PRESET))
    with open(folder / "said.txt", "w") as output, redirect_stdout(output):
        call(train_stage1, folder, folder / "model", "--training.sync", str(folder / "copies"))
