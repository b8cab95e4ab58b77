"""Features of many series from the cache: reading runs ahead of encoding, and batches run on from series to series."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from aneurysm.data.cache import Cache
from aneurysm.data.features import SeriesFeatures, made_from
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.dataset import PlainWindows
from aneurysm.stage1.extract import Encoder, Rows, by_series, series_features
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.whole_series import slice_places
from aneurysm.training.batches import one_thread
from aneurysm.training.checkpoint import file_hash


def extract(
    cache: Cache, series_uids: Sequence[str], encoder: Encoder, every_mm: float, batch_size: int, workers: int
) -> Iterator[tuple[str, SeriesFeatures]]:
    """Each series with its features, in order; memory does not grow with their number."""
    if not series_uids:
        return
    places = slice_places(cache, series_uids, every_mm)
    index = {uid: rows.to_numpy() for uid, rows in places.groupby("SeriesInstanceUID").slice}
    windows = PlainWindows(cache, places, encoder.config.input)
    loader = DataLoader(
        windows, batch_size, num_workers=workers, worker_init_fn=one_thread, pin_memory=encoder.device.type == "cuda"
    )

    def batches() -> Iterator[tuple[Rows, Sequence[str]]]:
        for batch in loader:
            owners, _, planes = zip(*(windows.places[i] for i in batch["number"].tolist()), strict=True)
            yield encoder(batch["image"], planes), owners

    for uid, rows in by_series(batches(), {uid: len(own) for uid, own in index.items()}):
        yield uid, series_features(rows, index[uid], cache.position_mm(uid), encoder.views, every_mm)


def features_of(
    model: Stage1Net, config: Stage1Config, series_uid: str, *,
    data_dir: Path, views: Sequence[str], every_mm: float, batch_size: int,
) -> SeriesFeatures:  # fmt: skip
    """One series' features, by a CPU: a question for DaskWorkers."""
    encoder = Encoder(model, config, torch.device("cpu"), views)
    ((_, features),) = extract(Cache(data_dir), [series_uid], encoder, every_mm, batch_size, workers=0)
    return features


def fingerprints(
    cache: Cache, series_uids: Sequence[str], checkpoint: Path, every_mm: float, views: Sequence[str]
) -> dict[str, str]:
    """For each series what its features are made from: weights, cached slices, settings."""
    settings = f"{file_hash(checkpoint)} {every_mm} {','.join(views)}"
    return {uid: hashlib.sha256(f"{settings} {cache.fingerprint(uid)}".encode()).hexdigest() for uid in series_uids}


def out_of_date(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Series whose features are missing, damaged, or made from something else."""
    return [uid for uid, own in wanted.items() if made_from(folder / f"{uid}.safetensors") != own]
