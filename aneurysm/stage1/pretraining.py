"""Pretrains stage 1 on endless phantom windows and exports the weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from aneurysm.cache.config import CacheSettings
from aneurysm.config import from_saved
from aneurysm.labels import LABELS
from aneurysm.package import code_version
from aneurysm.phantom.config import PhantomWindowsConfig
from aneurysm.stage1.config import PretrainingConfig, Stage1Config
from aneurysm.stage1.endless import EndlessWindows
from aneurysm.stage1.fresh import FreshSeries
from aneurysm.stage1.losses import Stage1Loss
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.norms import unfolded
from aneurysm.training.checkpoint import card_of, file_hash, load_trained, read_pretrained, save_state, write_pretrained
from aneurysm.training.config import InferenceConfig
from aneurysm.training.data import whole_epochs
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit

WHAT = "stage 1, pretrained on synthetic heads that were generated during training"
LICENCE = "MIT, as the code; ImageNet weights that they began with: Apache-2.0"


def pretrain(
    config: Stage1Config, n_windows: int, phantoms: PhantomWindowsConfig, settings: PretrainingConfig, weights: str,
    model_dir: Path, world: DistContext, resume: bool, made_by: str,
) -> Path:  # fmt: skip
    """Pretrains in <model_dir>/pretrained/<encoder> (files of `fit`) and returns the path of the exported weights.

    The weights, <encoder>.safetensors, are beside that folder; `made_by` is the command, for their card. Epochs as in
    whole_epochs. Raises ValueError as whole_epochs, EndlessWindows and fit.
    """
    n_epochs, per_epoch = whole_epochs(n_windows, settings.every, config.training.batch_size)
    config = replace(config, training=replace(config.training, epochs=n_epochs))
    torch.manual_seed(config.training.seed)
    model = Stage1Net(config.encoder, config.heads, config.input.image_size, weights, config.input.n_slices)
    if config.heads.freeze_norms:
        model.fold_norms()
    train_set = EndlessWindows(config, phantoms, settings.seed, per_epoch, settings.mining_weights)
    checks = {folder.name: FreshSeries.read(folder, settings.check_folds) for folder in settings.check_dirs}
    n_windows = n_epochs * per_epoch
    if world.is_main:
        print(f"{model.weights_text}; {n_windows} windows of seed {settings.seed}, {phantoms.windows_per_scan} a scan")
    inference = InferenceConfig(batch_size=16, workers=config.training.workers)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        scores: dict[str, float] = {}
        for name, check in checks.items():
            own = check.scores(trained, config, world, inference, settings.check_mm)
            scores |= {f"{name} {score}": value for score, value in own.items()}
        return scores

    about = {
        "stage1": asdict(config), "fold": None, "phantoms": asdict(phantoms), "seed": settings.seed,
        "n_windows": n_windows, "mining_weights": file_hash(settings.mining_weights) if settings.mining_weights else "",
    }  # fmt: skip
    folder, loss = model_dir / "pretrained" / config.encoder, Stage1Loss(config.loss, config.heads)
    fit(model, train_set, loss, evaluate, config.training, folder, world, about, resume)
    path = folder.parent / f"{config.encoder}.safetensors"
    if world.is_main:
        export_pretrained(folder / "last.pth", path, made_by)
    return path


def export_pretrained(checkpoint: Path, path: Path, made_by: str) -> None:
    """Writes a checkpoint of pretrain.py as <path>.safetensors and <path>.json, without folded norms."""
    saved = load_trained(checkpoint, "stage1")
    config = from_saved(Stage1Config, saved["config"]["stage1"])
    model = Stage1Net(config.encoder, config.heads, config.input.image_size, n_slices=config.input.n_slices)
    write_pretrained(path, unfolded(model, saved["weights"]), card_of(saved, WHAT, made_by, LICENCE))


def as_checkpoint(path: Path, checkpoint: Path) -> None:
    """Converts pretrained weights to a checkpoint of fold None, which later steps can read.

    Raises as read_pretrained.
    """
    saved = read_pretrained(path)
    about = {"cache": asdict(CacheSettings())} | saved["config"] | {"fold": None}
    content = {"weights": saved["weights"], "config": about, "labels": list(LABELS), "scores": {}, "epoch": 0}
    save_state(checkpoint, content | {"commit": code_version()})
