"""Step 1: DICOM series to caches of float16 slices.

    python preprocess_data.py --data_dir data --workers 8 --slices false

Reads  series/<uid>/, train.csv (without one, every folder in series/ is taken), segmentations/ where there are any
Writes npy_sequence/<uid>.npy (slices, 512, 512) float16 in [0, 1] and <uid>.json with geometry and mapping,
       npy_slice/<uid>/<iiii>.npy (512, 512), npy_vessels/<uid>.npy (slices, 512, 512) uint8 where there is a mask,
       train_meta.csv, slices.parquet, preprocess_errors.csv
       With --storage blosc2, <uid>.blosc2 instead of <uid>.npy: the same numbers in a third to half of the bytes.
Killed and started again, it goes on where it stopped. A series is redone when its files or these settings change, or
a cached file has another size than it was written with; --verify reads every byte.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.data.disk import estimate_bytes, require_disk, stored_share
from aneurysm.data.every_series import run_every_series
from aneurysm.data.lock import locked
from aneurysm.data.preprocess import CacheSettings, Outcome, died, preprocess_series
from aneurysm.data.storage import Storage
from aneurysm.data.tables import series_to_do, unlisted_series, write_tables
from aneurysm.paths import DataPaths


@dataclass(frozen=True)
class PreprocessConfig:
    data_dir: Path = Path("data")
    """folder that holds series/ and train.csv, and takes the caches"""
    workers: int = os.cpu_count() or 1
    """worker processes, one thread each"""
    slices: bool = True
    """also write one file per slice, for other people's scripts; doubles the disk needed"""
    head_mm: float = 180.0
    """keep the top so many millimetres of the head; 0 keeps every slice"""
    window_low_hu: float = 0.0
    """CT: Hounsfield units that become 0"""
    window_high_hu: float = 600.0
    """CT: Hounsfield units that become 1"""
    storage: Storage = "float16"
    """blosc2 compresses without loss series files and vessel masks, not the files of single slices"""
    verify: bool = False
    """read every cached file whole and make those anew that are cut short or damaged"""
    dask: str = ""
    """address of a Dask scheduler (tcp://...) whose workers do the work and see the same data_dir; needs the
    extra `dask`"""


def main(config: PreprocessConfig) -> None:
    paths = DataPaths(config.data_dir)
    series_uids = series_to_do(paths)
    with locked(paths.root, "preprocess_data"):
        outcomes = preprocess(config, paths, series_uids)
        meta, errors = write_tables(paths, outcomes)
    was_cached = sum(outcome.was_cached for outcome in outcomes)
    print(f"{len(meta)} series in {paths.npy_sequence} ({was_cached} were there before), {len(errors)} errors")
    print(f"{meta.vessels.sum()} of them with a vessel mask in {paths.npy_vessels}")
    print(meta.groupby(["series_type", "plane"]).size().unstack(fill_value=0).to_string() if len(meta) else "")
    for kind, rows in errors.groupby("kind"):
        print(f"{len(rows)} x {kind}, the first: {rows.message.iloc[0]}")
    if len(errors):
        print(f"all errors: {paths.preprocess_errors_csv}")


def preprocess(config: PreprocessConfig, paths: DataPaths, series_uids: list[str]) -> list[Outcome]:
    """What became of each series; prints what the cache needs and what was damaged in it."""
    settings = CacheSettings(config.head_mm, config.window_low_hu, config.window_high_hu)
    share = stored_share(paths, series_uids, settings, config.storage)
    needed = estimate_bytes(paths, series_uids, config.head_mm, share + config.slices)
    print(f"{len(series_uids)} series, about {needed / 1e9:.1f} GB of cache")
    if share < 1:
        print(f"compressed to {share:.0%}, by a few slices of a few of them")
    unlisted = unlisted_series(paths, series_uids)
    if unlisted:
        print(
            f"{len(unlisted)} folders in {paths.series} are not in train.csv and are left out, the first: {unlisted[0]}"
        )
    caches = (paths.npy_sequence, paths.npy_slice, paths.npy_vessels)
    require_disk(
        paths.root,
        needed,
        caches,
        "leave the slice files out (--slices false), compress (--storage blosc2) or keep less (--head_mm)",
    )
    job = partial(preprocess_series, config.data_dir.absolute(), settings=settings, slices=config.slices,
                  storage=config.storage, verify=config.verify)  # fmt: skip
    folders = (*caches, paths.root)
    outcomes = run_every_series(
        job, series_uids, config.workers, died, config.dask, folders, paths.preprocess_errors_csv
    )
    damaged = [outcome for outcome in outcomes if outcome.damage]
    if config.verify or damaged:
        n_made = sum(not outcome.kind for outcome in damaged)
        print(f"{len(damaged)} series were damaged in the cache, {n_made} of them made anew")
        print("\n".join(f"  {sentence}" for outcome in damaged for sentence in outcome.damage))
    return outcomes


def command() -> None:
    run_script(main, PreprocessConfig, __doc__)


if __name__ == "__main__":
    command()
