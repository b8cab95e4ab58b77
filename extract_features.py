"""Step 6: stage 1's features of slices of every series, sampled by millimetres, for stage 2.

    python extract_features.py --data_dir data --model_dir model --fold all --slice_spacing_mm 1.5

Each fold's encoder goes over the series of its fold, which it has not seen: stage 2 learns from these of all folds but
one, and is evaluated on that one. Series that are done are left as they are, unless model, slices or settings
have changed.

Reads  train_<folds>_folds.csv, npy_sequence/, <model_dir>/<encoder>/fold-<k>/last.pth
Writes <model_dir>/<encoder>/fold-<k>/features/<SeriesInstanceUID>.safetensors
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script, subset
from aneurysm.stage1.config import ExtractSettings


@dataclass(frozen=True)
class ExtractConfig(ExtractSettings):
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    fold: str = "all"
    """the fold whose encoder is used: 0, 1, ... or all that have been trained; or none, the encoder of all series"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    own_fold: bool = True
    """only the series that the encoder has not seen, which is all that a cross-fitted stage 2 needs; false: all series,
    for --tokens.cross_fitted false"""
    device: str = "auto"
    """cpu, cuda, or auto"""
    dask: str = ""
    """address of a Dask scheduler (tcp://...) whose workers do the work, on CPUs, and see the same folders; needs the
    extra `dask`"""


def main(config: ExtractConfig) -> None:
    # What needs torch is imported here: --help does not wait for it.
    from aneurysm.cache.cache import open_cache
    from aneurysm.folds.tables import chosen_folds, read_folds
    from aneurysm.lock import locked
    from aneurysm.paths import ModelPaths, trained_folds
    from aneurysm.stage1.extract import extract_fold
    from aneurysm.stage1.on_dask import DaskWorkers
    from aneurysm.training.distributed import end_distributed, init_distributed

    world = init_distributed(config.device)
    model_paths, dask = ModelPaths.only_one(config.model_dir, config.encoder), DaskWorkers(config.dask, world)
    folds = trained_folds([model_paths], chosen_folds(config.fold, config.folds, none=True), "train_stage1.py")
    cache, settings = open_cache(config.data_dir, config.cache_dir), subset(ExtractSettings, config)
    series = read_folds(cache.paths.cache, config.folds)
    cached = series[series.n_slices.notna()]
    for fold in folds:
        uids = cached.SeriesInstanceUID[(cached.fold == fold) | (not config.own_fold) | (fold is None)].tolist()
        with locked(model_paths.fold(fold), "extract_features") if world.is_main else nullcontext():
            n_before = extract_fold(cache, uids, model_paths, fold, settings, world, dask)
        if world.is_main:
            print(f"{model_paths.features(fold)}: {len(uids)} series ({n_before} cached before), "
                  f"{len(series) - len(cached)} are not in the cache")  # fmt: skip
    end_distributed()
    dask.check()


def command() -> None:
    run_script(main, ExtractConfig, __doc__)


if __name__ == "__main__":
    command()
