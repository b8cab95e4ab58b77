"""Step 5, for a second round: slices far from every localizer that stage 1 took for an aneurysm.

    python mine_hard_negatives.py --data_dir data --model_dir model

Every slice is scored by the model that has not seen its series; train_stage1.py then uses them as negatives.

Reads  train_<folds>_folds.csv, train_stage1_<folds>_folds.csv, localizer_errors.csv, npy_sequence/,
       <model_dir>/<encoder>/fold-<k>/last.pth
Writes hard_negatives.parquet
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script, subset
from aneurysm.labels import SAFE_MM
from aneurysm.training.config import InferenceConfig


@dataclass(frozen=True)
class MineConfig(InferenceConfig):
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    cache_dir: Path | None = None
    """folder for all that is made beside models; by default data_dir, which is otherwise only read"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    folds: int = 5
    """number of folds, as given to create_folds.py; folds without a model are skipped, with a message"""
    threshold: float = 0.7
    """minimum probability of Aneurysm Present, 0 to 1; high, since training repeats positives"""
    safe_mm: float = SAFE_MM
    """minimum distance from every localizer, in millimetres along the slice axis"""
    slice_spacing_mm: float = 0.0
    """distance between the slices that are evaluated; 0 takes every slice"""
    device: str = "auto"
    """cpu, cuda, or auto"""
    dask: str = ""
    """address of a Dask scheduler (tcp://...) whose workers do the work, on CPUs, and see the same folders; needs the
    extra `dask`"""


def main(config: MineConfig) -> None:
    # What needs torch is imported here: --help does not wait for it.
    import pandas as pd

    from aneurysm.cache.cache import open_cache
    from aneurysm.folds.hard_negatives import select_hard_negatives, write_hard_negatives
    from aneurysm.folds.spots import excluded_series
    from aneurysm.folds.tables import chosen_folds, read_folds, read_spots, read_unplaced
    from aneurysm.labels import PRESENT
    from aneurysm.lock import locked
    from aneurysm.paths import DataPaths, ModelPaths, trained_folds
    from aneurysm.stage1.evaluate import predict_fold, predict_fold_on_dask
    from aneurysm.stage1.on_dask import DaskWorkers
    from aneurysm.training.distributed import end_distributed, init_distributed

    world = init_distributed(config.device)
    paths, dask = DataPaths(config.data_dir, config.cache_dir), DaskWorkers(config.dask, world)
    with locked(paths.cache, "mine_hard_negatives") if world.is_main else nullcontext():
        cache = open_cache(config.data_dir, config.cache_dir)
        model_paths = ModelPaths.only_one(config.model_dir, config.encoder)
        series, spots, unplaced = (
            read(cache.paths.cache, config.folds) for read in (read_folds, read_spots, read_unplaced)
        )
        folds = trained_folds([model_paths], chosen_folds("all", config.folds), "train_stage1.py")
        predict, by = (predict_fold_on_dask, dask) if config.dask else (predict_fold, world)
        inference = subset(InferenceConfig, config)
        slices = pd.concat(
            [predict(cache, series, model_paths, fold, config.slice_spacing_mm, inference, by) for fold in folds]
        )
        if world.is_main:
            positives = spots[spots.kind == "positive"]
            barred = excluded_series(series, positives, unplaced)
            slices["probability"] = slices[PRESENT]
            hard = select_hard_negatives(slices, positives, barred, config.threshold, config.safe_mm)
            write_hard_negatives(hard, cache.paths.hard_negatives)
            print(f"folds {folds}: {len(hard)} slices of {hard.SeriesInstanceUID.nunique()} series, "
                  f"of {len(slices)} slices of {slices.SeriesInstanceUID.nunique()} series")  # fmt: skip
            print(cache.paths.hard_negatives)
    end_distributed()
    dask.check()


def command() -> None:
    run_script(main, MineConfig, __doc__)


if __name__ == "__main__":
    command()
