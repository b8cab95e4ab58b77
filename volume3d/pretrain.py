"""Optional, before step 4 of the second system: pretrains it on phantom parts that are drawn during training.

    python -m volume3d.pretrain --config configs/volume3d/dense.yaml --parts 50000
    torchrun --nproc_per_node 2 -m volume3d.pretrain --config configs/volume3d/dense.yaml --parts 50000 --resume true

Reads  nothing; with --pretraining.check_dirs phantoms whose volumes volume3d.preprocess has made
Writes <model_dir>/pretrained/volume3d/  last.pth, resume.pth, history.csv, history.png
       <model_dir>/pretrained/volume3d.safetensors and .json, the weights in float16 and their description
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from aneurysm.config import run_script, subset
from volume3d.config import PhantomPartsConfig, PretrainingConfig, Volume3dConfig, VolumeSettings


@dataclass(frozen=True)
class PretrainVolume3dConfig(Volume3dConfig):
    volumes: VolumeSettings = field(default_factory=VolumeSettings)
    phantoms: PhantomPartsConfig = field(default_factory=PhantomPartsConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    model_dir: Path = Path("model")
    """folder for pretrained/"""
    weights: str = ""
    """begin with: pretrained (the included weights), or a file of tensors; by default random ones"""
    parts: int = 50_000
    """parts in all, less what fills no batch; the learning rate has run out at the last one"""
    resume: bool = False
    """resume a killed run"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: PretrainVolume3dConfig) -> None:
    # Modules that need torch are imported here, so that --help stays fast.
    from aneurysm.training.distributed import end_distributed, init_distributed
    from volume3d.pretraining import pretrain

    world = init_distributed(config.device)
    made_by = " ".join(["python -m volume3d.pretrain", *sys.argv[1:]])
    path = pretrain(
        subset(Volume3dConfig, config), config.parts, config.volumes, config.phantoms, config.pretraining,
        config.weights, config.model_dir, world, config.resume, made_by,
    )  # fmt: skip
    if world.is_main:
        print(path)
    end_distributed()


def command() -> None:
    run_script(main, PretrainVolume3dConfig, __doc__)


if __name__ == "__main__":
    command()
