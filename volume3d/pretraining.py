"""Pretrains the second system on endless parts of phantom volumes, and writes its weights to one file."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from aneurysm.labels import LABELS
from aneurysm.paths import VOLUME3D
from aneurysm.training.checkpoint import card_of, load_checkpoint, write_pretrained
from aneurysm.training.data import whole_epochs
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit
from volume3d.cases import cases_of_folds
from volume3d.config import PhantomPartsConfig, PretrainingConfig, Volume3dConfig, VolumeSettings
from volume3d.endless import EndlessParts
from volume3d.model import Volume3dNet
from volume3d.training import HeldOut, Volume3dLoss
from volume3d.weights import load_weights, weights_path

WHAT = "volume3d, pretrained on parts of synthetic heads that were generated during training"


def pretrain(
    config: Volume3dConfig, n_parts: int, volumes: VolumeSettings, phantoms: PhantomPartsConfig,
    settings: PretrainingConfig, weights: str, model_dir: Path, world: DistContext, resume: bool, made_by: str,
) -> Path:  # fmt: skip
    """Trains, and returns the path of the weights file; `made_by` is the command, for the card beside it.

    Raises ValueError as EndlessParts and whole_epochs, and without net.dense.
    """
    n_epochs, per_epoch = whole_epochs(n_parts, settings.every, config.training.batch_size)
    own = replace(config, training=replace(config.training, epochs=n_epochs))
    if not own.net.dense:
        raise ValueError("net.dense 0: expected a layer whose cells answer, since a part of a head has no label")
    train_set = EndlessParts(own, phantoms, volumes, settings.seed, per_epoch)
    torch.manual_seed(own.training.seed)
    model = Volume3dNet(own.net)
    text = load_weights(model, weights_path(weights)) if weights else "random weights"
    n_parts = n_epochs * per_epoch
    if world.is_main:
        print(f"{text}; {n_parts} parts of seed {settings.seed}, {phantoms.parts_per_scan} a scan")
    about = {
        "volume3d": asdict(own), "held_out": None, "prevalence": [0.5] * len(LABELS), "volumes": asdict(volumes),
        "phantoms": asdict(phantoms), "seed": settings.seed, "n_windows": n_parts,
    }  # fmt: skip
    checks = {folder.name: check_set(folder, settings.check_folds) for folder in settings.check_dirs}

    def evaluate(trained: nn.Module) -> dict[str, float]:
        scores = {name: check.scores(check.predict(trained, own, world, name)) for name, check in checks.items()}
        return {f"{name} {score}": value for name, found in scores.items() for score, value in found.items()}

    folder = model_dir / "pretrained" / VOLUME3D
    loss = Volume3dLoss(own.loss, torch.full((len(LABELS),), 0.5))
    fit(model, train_set, loss, evaluate, own.training, folder, world, about, resume)
    path = folder.with_suffix(".safetensors")
    if world.is_main:
        saved = load_checkpoint(folder / "last.pth")
        write_pretrained(path, saved["weights"], card_of(saved, WHAT, made_by, "MIT, as the code"))
    return path


def check_set(data_dir: Path, folds: int) -> HeldOut:
    """All series of a folder of phantoms, none of which is trained on."""
    cases = cases_of_folds(data_dir, folds)
    return HeldOut.of(cases, cases)
