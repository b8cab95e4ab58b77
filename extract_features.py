"""Step 6: what stage 1 says about every slice of every series, for stage 2.

    python extract_features.py --data_dir data --model_dir model --fold all --every_mm 1.5

Each fold's encoder goes over all series: stage 2 of a fold is trained on the others and judged on its own. Series that
are done are left as they are, unless the model, the slices or the settings have changed.

Reads  train_<folds>_folds.csv, npy_sequence/, <model_dir>/<encoder>/fold-<k>/last.pth
Writes <model_dir>/<encoder>/fold-<k>/features/<SeriesInstanceUID>.safetensors
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from aneurysm.config import run_script
from aneurysm.data.cache import open_cache
from aneurysm.data.features import VIEWS, write_features
from aneurysm.data.lock import locked
from aneurysm.data.tables import chosen_folds, read_folds
from aneurysm.paths import ModelPaths, remove_leftovers
from aneurysm.stage1.extract import Encoder
from aneurysm.stage1.extract_run import extract, features_of, fingerprints, out_of_date
from aneurysm.stage1.judge import trained_folds
from aneurysm.stage1.on_dask import DaskWorkers
from aneurysm.stage1.predict import load_stage1
from aneurysm.training.distributed import World, join_world, leave_world


@dataclass(frozen=True)
class ExtractConfig:
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    fold: str = "all"
    """the fold whose encoder is used: 0, 1, ... or all that have been trained"""
    folds: int = 5
    """number of folds that create_folds.py was told"""
    own_fold: bool = False
    """only the series that the encoder has not seen: enough for a cross-fitted stage 2, and to judge one"""
    every_mm: float = 1.5
    """distance of the slices along the series; each at most once"""
    views: tuple[str, ...] = VIEWS
    """the image as it is (original) and with left and right exchanged (mirror)"""
    batch_size: int = 32
    """windows that are encoded at a time"""
    workers: int = 1
    """processes that read windows ahead of the encoder"""
    device: str = "auto"
    """cpu, cuda, or auto"""
    dask: str = ""
    """address of a Dask scheduler (tcp://...) whose workers do the work, on CPUs, and see the same folders; needs the
    extra `dask`"""


def main(config: ExtractConfig) -> None:
    world = join_world(config.device)
    model_paths, dask = ModelPaths.only_one(config.model_dir, config.encoder), DaskWorkers(config.dask, world)
    for fold in trained_folds(model_paths, chosen_folds(config.fold, config.folds)):
        with locked(model_paths.fold(fold), "extract_features") if world.is_main else nullcontext():
            extract_fold(config, world, dask, fold, model_paths.stage1(fold), model_paths.features(fold))
    leave_world()
    dask.check()


def extract_fold(
    config: ExtractConfig, world: World, dask: DaskWorkers, fold: int, checkpoint: Path, folder: Path
) -> None:
    """The features of all series as the encoder of one fold gives them; this process takes its share of the series."""
    cache, series = open_cache(config.data_dir), read_folds(config.data_dir, config.folds)
    cached = series.n_slices.notna() & ((series.fold == fold) | (not config.own_fold))
    made_from = fingerprints(cache, series.SeriesInstanceUID[cached], checkpoint, config.every_mm, config.views)
    todo = out_of_date(folder, made_from)
    n_before = len(made_from) - len(todo)
    world.wait()  # no process writes before the main one has the lock and all have seen what there is to share out
    if config.dask:
        question = partial(
            features_of, data_dir=config.data_dir.absolute(), views=config.views, every_mm=config.every_mm,
            batch_size=config.batch_size,
        )  # fmt: skip
        done = dask.ask(question, checkpoint, fold, todo)
    else:
        todo = todo[world.rank :: world.size]
        encoder = Encoder(*load_stage1(checkpoint, world.device, unseen=fold), world.device, config.views)
        done = extract(cache, todo, encoder, config.every_mm, config.batch_size, config.workers)
    for uid, features in tqdm(done, total=len(todo), unit="series", desc=f"fold {fold}", disable=not world.is_main):
        write_features(folder / f"{uid}.safetensors", features, made_from[uid])
    world.wait()
    if world.is_main:
        remove_leftovers(folder)
        print(f"{folder}: {len(made_from)} series ({n_before} were there before), "
              f"{(~series.n_slices.notna()).sum()} are not in the cache")  # fmt: skip


def command() -> None:
    run_script(main, ExtractConfig, __doc__)


if __name__ == "__main__":
    command()
