"""Step 7: trains stage 2, a transformer over the slices of a series, on all folds but one.

    python train_stage2.py --data_dir data --model_dir model --config configs/stage2/demo.yaml --fold 0
    torchrun --nproc_per_node 2 train_stage2.py --data_dir data --config configs/stage2/base.yaml --fold all

Reads  train_<folds>_folds.csv, train_stage1_<folds>_folds.csv, localizer_errors.csv, and
       <model_dir>/<encoder>/fold-<k>/features/ (with --tokens.cross_fitted of all folds)
Writes <model_dir>/<encoder>/fold-<k>/stage2/  last.pth (the one to use), best.pth, resume.pth, history.csv, history.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script, subset
from aneurysm.stage2.config import Stage2Config


@dataclass(frozen=True)
class TrainStage2Config(Stage2Config):
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    fold: str = "all"
    """the fold that is held out: 0, 1, ... or all, one after another; or none: one model of all series, without a
    score, to go with the stage 1 of all series"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    resume: bool = False
    """resume a killed run"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: TrainStage2Config) -> None:
    # What needs torch is imported here: --help does not wait for it.
    from aneurysm.folds.tables import chosen_folds, read_folds, read_spots, read_unplaced
    from aneurysm.paths import DataPaths, ModelPaths
    from aneurysm.stage2.dataset import SliceLocalizers
    from aneurysm.stage2.training import train_fold
    from aneurysm.training.distributed import end_distributed, init_distributed

    world = init_distributed(config.device)
    model_paths = ModelPaths.only_one(config.model_dir, config.encoder)
    folder = DataPaths(config.data_dir, config.cache_dir).cache
    series, spots, unplaced = (read(folder, config.folds) for read in (read_folds, read_spots, read_unplaced))
    stage2, marks = subset(Stage2Config, config), SliceLocalizers.of(series, spots, unplaced)
    for fold in chosen_folds(config.fold, config.folds, none=True):
        train_fold(series, marks, model_paths, stage2, fold, world, config.resume)
        if world.is_main:
            print(f"{model_paths.stage2(fold) / 'last.pth'}")
    end_distributed()


def command() -> None:
    run_script(main, TrainStage2Config, __doc__)


if __name__ == "__main__":
    command()
