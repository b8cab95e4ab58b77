"""Features of many series: from the cache, batch by batch, into a file each, and only those that are out of date."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from aneurysm.cache.cache import Cache
from aneurysm.cache.features import FORMAT, SeriesFeatures, made_from, write_features
from aneurysm.paths import ModelPaths, remove_leftovers
from aneurysm.stage1.config import ExtractSettings, Stage1Config
from aneurysm.stage1.dataset import EvalWindows
from aneurysm.stage1.extract import Encoder, Rows, by_series, series_features
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.on_dask import DaskWorkers
from aneurysm.stage1.predict import load_stage1
from aneurysm.stage1.whole_series import slice_places
from aneurysm.training.batches import one_thread
from aneurysm.training.checkpoint import file_hash
from aneurysm.training.distributed import DistContext


def extract_fold(
    cache: Cache, series_uids: Sequence[str], model_paths: ModelPaths, fold: int,
    settings: ExtractSettings, world: DistContext, dask: DaskWorkers,
) -> int:  # fmt: skip
    """Writes the features of these series as the encoder that has not seen `fold` gives them, where they are missing or
    out of date; the number of those that were there.

    This process takes its share of the series, or has the workers of a Dask cluster compute all of them, if there is
    one; series without an answer are in `dask.failures` then.
    """
    checkpoint, folder = model_paths.stage1(fold), model_paths.features(fold)
    wanted = fingerprints(cache, series_uids, checkpoint, settings)
    todo = out_of_date(folder, wanted)
    n_before = len(wanted) - len(todo)
    world.wait()  # no process writes before the main one has the lock and all have seen what there is to share out
    if dask.address:
        question = partial(features_of, cache_dir=cache.paths.cache.absolute(), settings=settings)
        done = dask.predict(question, checkpoint, fold, todo)
    else:
        todo = todo[world.rank :: world.size]
        encoder = Encoder(*load_stage1(checkpoint, world.device, unseen=fold), world.device, settings.views,
                          settings.precision)  # fmt: skip
        done = extract(cache, todo, encoder, settings.slice_spacing_mm, settings.batch_size, settings.workers)
    for uid, features in tqdm(done, total=len(todo), unit="series", desc=f"fold {fold}", disable=not world.is_main):
        write_features(folder / f"{uid}.safetensors", features, wanted[uid])
    world.wait()
    if world.is_main:
        remove_leftovers(folder)
    return n_before


def extract(
    cache: Cache, series_uids: Sequence[str], encoder: Encoder, slice_spacing_mm: float, batch_size: int, workers: int
) -> Iterator[tuple[str, SeriesFeatures]]:
    """Each series with its features, in order; memory does not grow with their number."""
    if not series_uids:
        return
    places = slice_places(cache, series_uids, slice_spacing_mm)
    index = {uid: rows.to_numpy() for uid, rows in places.groupby("SeriesInstanceUID").slice}
    windows = EvalWindows(cache, places, encoder.config.input)
    loader = DataLoader(
        windows, batch_size, num_workers=workers, worker_init_fn=one_thread, pin_memory=encoder.device.type == "cuda"
    )

    def batches() -> Iterator[tuple[Rows, Sequence[str]]]:
        for batch in loader:
            owners, _, planes = zip(*(windows.places[i] for i in batch["number"].tolist()), strict=True)
            yield encoder(batch["image"], planes), owners

    for uid, rows in by_series(batches(), {uid: len(own) for uid, own in index.items()}):
        yield uid, series_features(rows, index[uid], cache.position_mm(uid), encoder.views, slice_spacing_mm)


def features_of(
    model: Stage1Net, config: Stage1Config, series_uid: str, *, cache_dir: Path, settings: ExtractSettings
) -> SeriesFeatures:
    """One series' features, by a CPU: a question for DaskWorkers."""
    encoder = Encoder(model, config, torch.device("cpu"), settings.views, settings.precision)
    cache = Cache(cache_dir)
    ((_, features),) = extract(cache, [series_uid], encoder, settings.slice_spacing_mm, settings.batch_size, workers=0)
    return features


def fingerprints(
    cache: Cache, series_uids: Sequence[str], checkpoint: Path, settings: ExtractSettings
) -> dict[str, str]:
    """For each series what its features are made from: weights, cached slices, settings."""
    made_from = (
        f"{FORMAT} {file_hash(checkpoint)} {settings.slice_spacing_mm} {','.join(settings.views)} {settings.precision}"
    )
    return {uid: hashlib.sha256(f"{made_from} {cache.fingerprint(uid)}".encode()).hexdigest() for uid in series_uids}


def out_of_date(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Series whose features are missing, damaged, or made from something else."""
    return [uid for uid, own in wanted.items() if made_from(folder / f"{uid}.safetensors") != own]
