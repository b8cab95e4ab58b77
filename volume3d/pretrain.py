"""Before step 4 of the second system, optional: trains it on parts of phantom volumes that are made as it goes.

    python -m volume3d.pretrain --config configs/volume3d/dense.yaml --parts 50000
    torchrun --nproc_per_node 2 -m volume3d.pretrain --config configs/volume3d/dense.yaml --parts 50000 --resume true

Reads  nothing; with --pretraining.check_dirs phantoms whose volumes volume3d.preprocess has made
Writes <model_dir>/pretrained/volume3d/  last.pth, resume.pth, history.csv, history.png
       <model_dir>/pretrained/volume3d.safetensors and .json, the weights in float16 and what they are
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from aneurysm.config import run_script, subset
from aneurysm.labels import LABELS
from aneurysm.paths import VOLUME3D
from aneurysm.phantom.training_scans import FIRST_SEED
from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.distributed import DistContext, end_distributed, init_distributed
from aneurysm.training.endless import whole_epochs
from aneurysm.training.fit import fit
from aneurysm.training.pretrained import card_of, write_pretrained
from volume3d.cases import cases_of_folds
from volume3d.config import Volume3dConfig
from volume3d.endless import EndlessParts
from volume3d.make_volume import VolumeSettings
from volume3d.model import Volume3dNet
from volume3d.phantoms import PhantomPartsConfig
from volume3d.run import HeldOut, Volume3dLoss
from volume3d.weights import load_weights, weights_path

WHAT = "volume3d, pretrained on parts of synthetic heads that were made as it went and never seen twice"


@dataclass(frozen=True)
class PretrainingConfig:
    """What pretraining draws, and what it is held to meanwhile."""

    seed: int = FIRST_SEED
    """of the phantoms"""
    every: int = 2000
    """about so many parts from one epoch of history.csv, and one resume.pth, to the next"""
    check_dirs: tuple[Path, ...] = ()
    """folders of phantoms with volumes of these settings, on which the network is evaluated every
    training.evaluate_every epochs"""
    check_folds: int = 2
    """number of folds that create_folds.py was told there"""


@dataclass(frozen=True)
class PretrainVolume3dConfig(Volume3dConfig):
    volumes: VolumeSettings = field(default_factory=VolumeSettings)
    phantoms: PhantomPartsConfig = field(default_factory=PhantomPartsConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    model_dir: Path = Path("model")
    """folder for pretrained/"""
    weights: str = ""
    """begin with: pretrained (those in the box), or a file of tensors; by default random ones"""
    parts: int = 50_000
    """parts in all, less what fills no batch; the learning rate has run out at the last one"""
    resume: bool = False
    """go on with a killed run"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: PretrainVolume3dConfig) -> None:
    world = init_distributed(config.device)
    made_by = " ".join(["python -m volume3d.pretrain", *sys.argv[1:]])
    path = pretrain(config, made_by, world)
    if world.is_main:
        print(path)
    end_distributed()


def pretrain(config: PretrainVolume3dConfig, made_by: str, world: DistContext) -> Path:
    """Trains, and returns the path of the file of weights. Raises ValueError as EndlessParts and whole_epochs."""
    settings = config.pretraining
    n_epochs, per_epoch = whole_epochs(config.parts, settings.every, config.training.batch_size)
    own = replace(subset(Volume3dConfig, config), training=replace(config.training, epochs=n_epochs))
    if not own.net.dense:
        raise ValueError("net.dense 0: expected a layer whose cells answer, since a part of a head has no label")
    train_set = EndlessParts(own, config.phantoms, config.volumes, settings.seed, per_epoch)
    torch.manual_seed(own.training.seed)
    model = Volume3dNet(own.net)
    said = load_weights(model, weights_path(config.weights)) if config.weights else "random weights"
    n_parts = n_epochs * per_epoch
    if world.is_main:
        print(f"{said}; {n_parts} parts of seed {settings.seed}, {config.phantoms.parts_per_scan} a scan")
    about = {
        "volume3d": asdict(own), "held_out": None, "prevalence": [0.5] * len(LABELS), "volumes": asdict(config.volumes),
        "phantoms": asdict(config.phantoms), "seed": settings.seed, "n_windows": n_parts,
    }  # fmt: skip
    checks = {folder.name: check_set(folder, settings.check_folds) for folder in settings.check_dirs}

    def evaluate(trained: nn.Module) -> dict[str, float]:
        scores = {name: check.scores(check.answers(trained, own, world, name)) for name, check in checks.items()}
        return {f"{name} {score}": value for name, found in scores.items() for score, value in found.items()}

    folder = config.model_dir / "pretrained" / VOLUME3D
    loss = Volume3dLoss(own.loss, torch.full((len(LABELS),), 0.5))
    fit(model, train_set, loss, evaluate, own.training, folder, world, about, config.resume)
    path = folder.with_suffix(".safetensors")
    if world.is_main:
        saved = load_checkpoint(folder / "last.pth")
        write_pretrained(path, saved["weights"], card_of(saved, WHAT, made_by, "MIT, as the code"))
    return path


def check_set(data_dir: Path, folds: int) -> HeldOut:
    """All series of a folder of phantoms, of which none is trained on."""
    cases = cases_of_folds(data_dir, folds)
    return HeldOut.of(cases, cases)


def command() -> None:
    run_script(main, PretrainVolume3dConfig, __doc__)


if __name__ == "__main__":
    command()
