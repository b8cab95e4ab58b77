"""Step 4: what stage 1 is worth on the spots that it was not trained on, and on whole series.

    python eval_stage1.py --data_dir data --model_dir model --fold all
    python eval_stage1.py --data_dir data --model_dir model --fold 0 --series true
    python eval_stage1.py --data_dir fresh --weights pretrained --series true --slice_spacing_mm 1.5 --tta mirror

Reads  train_stage1_<folds>_folds.csv, train_<folds>_folds.csv, npy_sequence/, <model_dir>/<encoder>/fold-<k>/last.pth
Writes <model_dir>/<encoder>/oof_stage1.csv  14 probabilities of each held-out window; rows of other folds stay
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script, subset
from aneurysm.stage1.config import Tta
from aneurysm.training.config import InferenceConfig


@dataclass(frozen=True)
class EvalStage1Config(InferenceConfig):
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    fold: str = "all"
    """the fold to evaluate: 0, 1, ... or all that have been trained"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    series: bool = False
    """also evaluate every slice of every held-out series: FROC, and the maximum over slices"""
    slice_spacing_mm: float = 0.0
    """with --series: distance between the slices that are evaluated; 0 takes every slice"""
    tta: Tta = "none"
    """mirror: the mean of the answers about windows and about their mirror images; with --series, of --weights alone"""
    weights: str = ""
    """evaluate this one model on all series, which it must not have seen: pretrained (the included weights), or a
    file of pretrain.py or train_stage1.py"""
    out: Path | None = None
    """with --weights and --series: a table for the highest values of each series' maps"""
    sync: str = ""
    """s3://bucket/prefix to which the table is copied, too"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: EvalStage1Config) -> None:
    # What needs torch is imported here: --help does not wait for it.
    from aneurysm.training.distributed import end_distributed

    (evaluate_weights if config.weights else evaluate_trained_folds)(config)
    end_distributed()


def evaluate_trained_folds(config: EvalStage1Config) -> None:
    """Each fold's model on the spots, and with --series on the series, of its fold."""
    import pandas as pd

    from aneurysm.cache.cache import open_cache
    from aneurysm.folds.oof import replace_folds
    from aneurysm.folds.tables import chosen_folds, read_folds, read_spots
    from aneurysm.paths import ModelPaths, trained_folds
    from aneurysm.stage1.evaluate import evaluate_fold, predict_fold, series_text, windows_text
    from aneurysm.training.distributed import init_distributed
    from aneurysm.training.sync import copy_up

    world, inference = init_distributed(config.device), subset(InferenceConfig, config)
    cache = open_cache(config.data_dir, config.cache_dir)
    model_paths = ModelPaths.only_one(config.model_dir, config.encoder)
    spots = read_spots(cache.paths.cache, config.folds)
    folds = trained_folds([model_paths], chosen_folds(config.fold, config.folds), "train_stage1.py")
    evaluation = [evaluate_fold(cache, spots, model_paths, fold, world, inference, config.tta) for fold in folds]
    if world.is_main:
        print(windows_text(evaluation))
        replace_folds(pd.concat([own.table for own in evaluation]), model_paths.oof_stage1_csv)
        print(model_paths.oof_stage1_csv)
        copy_up([model_paths.oof_stage1_csv], config.sync, config.model_dir)
    if config.series:
        series = read_folds(cache.paths.cache, config.folds)
        slices = [
            predict_fold(cache, series, model_paths, fold, config.slice_spacing_mm, inference, world) for fold in folds
        ]
        if world.is_main:
            print(series_text(pd.concat(slices), series, spots, cache))


def evaluate_weights(config: EvalStage1Config) -> None:
    """One model on all series of the folder, which it must not have seen."""
    from aneurysm.folds.tables import read_folds
    from aneurysm.stage1.evaluate import Evaluation, series_text, windows_text, with_pixel_mm
    from aneurysm.stage1.fresh import FreshSeries
    from aneurysm.stage1.predict import heatmap_maxima, load_stage1
    from aneurysm.stage1.training import outside_text
    from aneurysm.stage1.weights import weights_path
    from aneurysm.tables import write_csv
    from aneurysm.training.distributed import init_distributed

    world, inference = init_distributed(config.device), subset(InferenceConfig, config)
    path = weights_path(config.encoder or "tf_efficientnet_lite0", config.weights)
    model, stage1 = load_stage1(path, world.device)
    fresh = FreshSeries.read(config.data_dir, config.folds, config.cache_dir)
    held_out, predictions = fresh.predict_spots(model, stage1, world, inference, config.tta)
    slices = (
        fresh.predict_slices(model, stage1, world, inference, config.slice_spacing_mm, config.tta)
        if config.series
        else None
    )
    if not world.is_main:
        return
    print(f"{path} on all series of {config.data_dir}, which it must not have seen")
    peaks = None
    if stage1.heads.heatmap_weight:
        peaks = with_pixel_mm(held_out.peaks(predictions, fresh.spots, stage1.input), fresh.cache)
    outside = outside_text(fresh.spots, stage1.input)
    print(windows_text([Evaluation(held_out.table(predictions), held_out.truth, peaks, outside)]))
    if slices is not None:
        print(series_text(slices, fresh.series, fresh.spots, fresh.cache))
        print(f"a localizer's own peak above the highest of a series without any: {fresh.own_peak_above(slices):.3f}")
        if config.out is not None:
            by_map = heatmap_maxima(slices).reset_index()
            folds = read_folds(fresh.cache.paths.cache, config.folds)[["SeriesInstanceUID", "fold"]]
            write_csv(folds.merge(by_map, on="SeriesInstanceUID"), config.out)  # in the folds of other systems' tables
            print(config.out)


def command() -> None:
    run_script(main, EvalStage1Config, __doc__)


if __name__ == "__main__":
    command()
