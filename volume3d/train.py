"""Step 4 of the second system: trains a 3D ResNet-18 on whole volumes, on all folds but one or on a split.

    python -m volume3d.train --data_dir data --model_dir model --config configs/volume3d/demo.yaml --folds 2 --fold all
    torchrun --nproc_per_node 2 -m volume3d.train --data_dir data --config configs/volume3d/base.yaml --fold 0
    python -m volume3d.train --data_dir data --config configs/volume3d/base.yaml --split data/volume_split.csv

Reads  manifest.jsonl, npy_volume/, train_<folds>_folds.csv or the split; with net.dense train_localizers.csv
Writes <model_dir>/volume3d/fold-<k>/, or split/  last.pth (the one to use), best.pth, resume.pth, history.csv, ...
       <model_dir>/volume3d/oof_volume3d.csv      with --fold all: 14 probabilities of each held-out series
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script, subset
from aneurysm.paths import VOLUME3D, DataPaths, ModelPaths
from volume3d.config import Volume3dConfig


@dataclass(frozen=True)
class TrainVolume3dConfig(Volume3dConfig):
    data_dir: Path = Path("data")
    """folder with manifest.jsonl and npy_volume/"""
    model_dir: Path = Path("model")
    """folder for volume3d/fold-<k>/"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    fold: str = "all"
    """the fold that is held out: 0, 1, ... or all, one after another"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    split: Path | None = None
    """instead of folds: a file of volume3d.split_patients; trains on its train set and evaluates on its val set"""
    weights: str = ""
    """begin with: pretrained (the included weights, for configs/volume3d/dense.yaml), or a file of tensors, such as
    torchvision's of r3d_18, whose input channels are summed"""
    limit: int = 0
    """train and evaluate on about this many series only; 0 takes all"""
    resume: bool = False
    """resume a killed run"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: TrainVolume3dConfig) -> None:
    # Modules that need torch are imported here, so that --help stays fast.
    from aneurysm.training.distributed import end_distributed

    model_paths = ModelPaths(config.model_dir, VOLUME3D)
    (train_folds if config.split is None else train_split)(config, model_paths)
    end_distributed()


def train_folds(config: TrainVolume3dConfig, model_paths: ModelPaths) -> None:
    """Trains the model of each fold; with --fold all, also writes the predictions of each for its held-out fold."""
    from aneurysm.folds.tables import chosen_folds
    from aneurysm.tables import write_csv
    from aneurysm.training.distributed import init_distributed
    from aneurysm.training.sync import copy_up
    from volume3d.cases import cases_of_folds
    from volume3d.evaluate import evaluate_folds
    from volume3d.training import train

    world, own, training = init_distributed(config.device), subset(Volume3dConfig, config), config.training
    if training.schedule == "plateau" and training.plateau_on == "score":
        raise ValueError("training.plateau_on score: the held-out fold would have a say in the weights; expected loss")
    cases = cases_of_folds(DataPaths(config.data_dir, config.cache_dir).cache, config.folds).first(config.limit)
    localizers = DataPaths(config.data_dir).localizers_csv
    for fold in chosen_folds(config.fold, config.folds):
        seen, unseen, folder = cases.without(fold), cases.of(fold), model_paths.fold(fold)
        train(seen, unseen, own, fold, config.weights, folder, world, config.resume, localizers)
    if config.fold == "all":
        evaluation = evaluate_folds(cases, model_paths, range(config.folds), world)
        if world.is_main:
            write_csv(evaluation.table(), model_paths.oof_volume3d_csv)
            copy_up([model_paths.oof_volume3d_csv], training.sync, config.model_dir)
            print(f"{model_paths.oof_volume3d_csv}: {evaluation.counted}")


def train_split(config: TrainVolume3dConfig, model_paths: ModelPaths) -> None:
    """Trains one model on the train series of a split, with val held out."""
    from aneurysm.training.distributed import init_distributed
    from volume3d.cases import cases_of_split, split_checksum
    from volume3d.training import train

    world, own = init_distributed(config.device), subset(Volume3dConfig, config)
    cases = cases_of_split(DataPaths(config.data_dir, config.cache_dir).cache, config.split).first(config.limit)
    seen, unseen, named = cases.of("train"), cases.of("val"), split_checksum(config.split)
    folder, localizers = model_paths.volume3d_split, DataPaths(config.data_dir).localizers_csv
    train(seen, unseen, own, named, config.weights, folder, world, config.resume, localizers)


def command() -> None:
    run_script(main, TrainVolume3dConfig, __doc__)


if __name__ == "__main__":
    command()
