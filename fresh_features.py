"""Before step 7, optional: stage 1's features of synthetic heads that it has never seen, to train stage 2.

    python fresh_features.py --out data/stage2 --n_series 1000

Heads are made in portions by steps 0 to 2, stage 1 goes over them as in step 6, and then all but the features and the
tables is deleted, so that the disk holds one portion at a time. train_stage2.py --fold none --config stage2/fresh comes
next. Run again, it goes on where it stopped; a larger --n_series adds to what is there.

Reads  the pretrained weights
Writes <out>/model/<encoder>/fold-none/last.pth, the weights as a checkpoint, and features/ beside it;
       <out>/train_5_folds.csv, train_stage1_5_folds.csv, localizer_errors.csv; <out>/portions/, the tables of each
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.paths import ModelPaths, atomic_write
from aneurysm.phantom.config import FIRST_SEED

FOLDS = 5
TABLES = (f"train_{FOLDS}_folds.csv", f"train_stage1_{FOLDS}_folds.csv", "localizer_errors.csv")
KINDS = (("usual", 256), ("varied", 256), ("usual", 384), ("varied", 512))  # style and size of the portions, in turn
GB_OF_A_SERIES = 0.15  # of 512 pixels: files, cached slices


@dataclass(frozen=True)
class FreshFeaturesConfig:
    out: Path = Path("data/stage2")
    """folder for all that is made"""
    n_series: int = 1000
    """series in all, rounded up to whole portions"""
    portion: int = 40
    """series that are on the disk at a time"""
    seed: int = 1_200_000
    """of the first portion, 1,000,000 or more; the next ones follow it. Stage 1 must not have been trained on them"""
    encoder: str = "tf_efficientnet_lite0"
    """timm's name of the encoder of the weights"""
    weights: str = "pretrained"
    """stage 1: pretrained (the included weights), or a file of pretrain.py"""
    slice_spacing_mm: float = 3.0
    """distance of the slices along the series"""
    views: tuple[str, ...] = ("original",)
    """original, mirror, as extract_features.py --views"""
    batch_size: int = 16
    """windows in a batch"""
    workers: int = os.cpu_count() or 1
    """processes that make and preprocess series"""
    device: str = "auto"
    """cpu, cuda, or auto"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        for name, least in (("n_series", 1), ("portion", FOLDS), ("seed", FIRST_SEED)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, found {getattr(self, name)}")


def main(config: FreshFeaturesConfig) -> None:
    # What takes a while to import is imported here: --help does not wait for it.
    import pandas as pd
    from tqdm import tqdm

    from aneurysm.lock import locked
    from aneurysm.tables import write_csv

    n_portions = -(-config.n_series // config.portion)
    print(
        f"{n_portions} portions of {config.portion} series, at most {config.portion * GB_OF_A_SERIES:.0f} GB at a time"
    )
    with locked(config.out, "fresh_features"):
        claim(config)
        done = [config.out / "portions" / str(config.seed + number) for number in range(n_portions)]
        for number, folder in enumerate(tqdm(done, unit="portion")):
            if not folder.exists():
                make_portion(config, number, folder)
            shutil.rmtree(series_folder(config, number), ignore_errors=True)
        for name in TABLES:
            write_csv(pd.concat([pd.read_csv(folder / name, dtype=str) for folder in done]), config.out / name)
    print(f"{n_portions * config.portion} series: {config.out / TABLES[0]}, {model_paths(config).features(None)}")


def claim(config: FreshFeaturesConfig) -> None:
    """Writes the checkpoint and the settings, or compares the settings with those of an earlier run.

    Raises ValueError naming the file where they differ.
    """
    from aneurysm.stage1.pretraining import as_checkpoint
    from aneurysm.stage1.weights import weights_path
    from aneurysm.training.checkpoint import file_hash

    weights = weights_path(config.encoder, config.weights)
    wanted = {"portion": config.portion, "seed": config.seed, "encoder": config.encoder, "weights": file_hash(weights),
              "slice_spacing_mm": config.slice_spacing_mm, "views": list(config.views)}  # fmt: skip
    path = config.out / "settings.json"
    if not path.exists():
        as_checkpoint(weights, model_paths(config).stage1(None))
        with atomic_write(path) as beside:
            beside.write_text(json.dumps(wanted, indent=1))
    elif (found := json.loads(path.read_text())) != wanted:
        raise ValueError(f"{path}: expected {wanted}, found {found}; give another --out or delete the folder")


def make_portion(config: FreshFeaturesConfig, number: int, folder: Path) -> None:
    """Makes the series, has stage 1 go over them, and puts their tables into `folder`."""
    beside = series_folder(config, number)
    for command in commands(config, number, beside):
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode:
            last_line = run.stdout.strip().splitlines()[-1:] or ["nothing"]
            raise ValueError(f"{' '.join(command[1:])}: expected it to succeed, found {last_line[0]}")
    with atomic_write(folder) as tables:
        tables.mkdir()
        for name in TABLES:
            shutil.copy(beside / name, tables / name)


def series_folder(config: FreshFeaturesConfig, number: int) -> Path:
    """Where the series of a portion lie until stage 1 has gone over them."""
    return config.out / f"portion-{config.seed + number}"


def commands(config: FreshFeaturesConfig, number: int, folder: Path) -> Iterator[list[str]]:
    """The steps of a portion, as a user would call them."""
    style, size = KINDS[number % len(KINDS)]
    steps = {
        "make_phantoms": {"out": folder, "n_series": config.portion, "seed": config.seed + number, "style": style,
                          "size": size, "balanced": "true", "workers": config.workers},
        "preprocess_data": {"data_dir": folder, "workers": config.workers},
        "create_folds": {"data_dir": folder, "folds": FOLDS},
        "extract_features": {"data_dir": folder, "folds": FOLDS, "model_dir": config.out / "model", "fold": "none",
                             "slice_spacing_mm": config.slice_spacing_mm, "views": ",".join(config.views),
                             "batch_size": config.batch_size, "device": config.device, "workers": 0},
    }  # fmt: skip
    for name, flags in steps.items():
        words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        yield [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *words]


def model_paths(config: FreshFeaturesConfig) -> ModelPaths:
    return ModelPaths(config.out / "model", config.encoder)


def command() -> None:
    run_script(main, FreshFeaturesConfig, __doc__)


if __name__ == "__main__":
    command()
