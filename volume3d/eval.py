"""Step 5 of the second system: its scores on held-out series, alone and averaged with the first system.

    python -m volume3d.eval --data_dir data --model_dir model --fold all
    python -m volume3d.eval --data_dir data --model_dir model --blend model/tf_efficientnet_lite0/oof_stage2.csv
    python -m volume3d.eval --data_dir data --model_dir model --split data/volume_split.csv --part test

Reads  manifest.jsonl, npy_volume/, train_<folds>_folds.csv or the split, <model_dir>/volume3d/fold-<k>/last.pth
Writes <model_dir>/volume3d/oof_volume3d.csv  14 probabilities of each held-out series; rows of other folds stay.
       With --limit, a file that has more series of these folds stays unchanged. With --split nothing is written
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aneurysm.config import run_script
from aneurysm.paths import VOLUME3D, DataPaths, ModelPaths


@dataclass(frozen=True)
class EvalVolume3dConfig:
    data_dir: Path = Path("data")
    """folder with manifest.jsonl and npy_volume/"""
    model_dir: Path = Path("model")
    """folder with volume3d/fold-<k>/"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    fold: str = "all"
    """the fold to evaluate: 0, 1, ... or all that have been trained"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    split: Path | None = None
    """instead of folds: the file of volume3d.split_patients that the model was trained on"""
    weights: str = ""
    """instead of the folds' models: this one on all series, which it must not have seen: pretrained (the weights in
    the box), or a file that volume3d.pretrain wrote"""
    part: Literal["val", "test"] = "test"
    """the part of the split to evaluate"""
    blend: Path | None = None
    """the first system's oof_stage2.csv: also evaluate the average of both, its weight chosen on the other folds"""
    limit: int = 0
    """evaluate on about this many series only, as volume3d.train; 0 takes all"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: EvalVolume3dConfig) -> None:
    # Modules that need torch are imported here, so that --help stays fast.
    from aneurysm.training.distributed import end_distributed

    model_paths = ModelPaths(config.model_dir, VOLUME3D)
    if config.split is not None and config.weights:
        raise ValueError("weights: they have seen no series at all; expected folds, found a split")
    if config.split is not None and config.blend is not None:
        raise ValueError("blend: the first system answers out of fold; expected folds, found a split")
    (eval_folds if config.split is None else eval_split)(config, model_paths)
    end_distributed()


def eval_folds(config: EvalVolume3dConfig, model_paths: ModelPaths) -> None:
    from aneurysm.folds.oof import write_predictions
    from aneurysm.folds.tables import chosen_folds, read_folds
    from aneurysm.training.distributed import init_distributed
    from volume3d.blend import blend_of
    from volume3d.cases import cases_of_folds
    from volume3d.evaluate import evaluate_folds, evaluate_weights
    from volume3d.weights import weights_path

    world = init_distributed(config.device)
    cases = cases_of_folds(DataPaths(config.data_dir, config.cache_dir).cache, config.folds).first(config.limit)
    if config.weights:
        evaluation = evaluate_weights(cases, weights_path(config.weights), world)
    else:
        evaluation = evaluate_folds(cases, model_paths, chosen_folds(config.fold, config.folds), world)
    if not world.is_main:
        return
    print(evaluation.text())
    print(write_predictions(evaluation.table(), model_paths.oof_volume3d_csv, limited=config.limit > 0))
    if config.blend is not None:
        blend = blend_of(
            read_folds(DataPaths(config.data_dir, config.cache_dir).cache, config.folds),
            config.blend,
            model_paths.oof_volume3d_csv,
        )
        print(f"\n{blend.text(config.blend.parent.name)}")


def eval_split(config: EvalVolume3dConfig, model_paths: ModelPaths) -> None:
    from aneurysm.training.distributed import init_distributed
    from volume3d.cases import cases_of_split, split_checksum
    from volume3d.evaluate import evaluate_split

    world = init_distributed(config.device)
    cases = cases_of_split(DataPaths(config.data_dir, config.cache_dir).cache, config.split).first(config.limit)
    evaluation = evaluate_split(cases, model_paths, config.part, split_checksum(config.split), world)
    if world.is_main:
        print(evaluation.text())


def command() -> None:
    run_script(main, EvalVolume3dConfig, __doc__)


if __name__ == "__main__":
    command()
