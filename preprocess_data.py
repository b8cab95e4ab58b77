"""Step 1: DICOM series to caches of float16 slices.

    python preprocess_data.py --data_dir data --workers 8

Reads  series/<uid>/, train.csv (without one, every folder in series/ is taken), segmentations/ where there are any
Writes npy_sequence/<uid>.npy (slices, 512, 512) float16 in [0, 1] and <uid>.json with geometry and mapping,
       npy_vessels/<uid>.npy (slices, 512, 512) uint8 where there is a mask,
       train_meta.csv, slices.parquet, preprocess_errors.csv
       With --slices also npy_slice/<uid>/<iiii>.npy (512, 512): slice files are for other people's scripts.
       With --storage blosc2, <uid>.blosc2 instead of <uid>.npy: the same numbers in a third to half of the bytes.
Killed and started again, it goes on where it stopped. A series is redone when its files or these settings change, or
a cached file has another size than it was written with; --verify reads every byte.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aneurysm.cache.config import CacheSettings, Storage
from aneurysm.config import run_script
from aneurysm.paths import DataPaths


@dataclass(frozen=True)
class PreprocessConfig:
    data_dir: Path = Path("data")
    """folder that holds series/ and train.csv"""
    cache_dir: Path | None = None
    """folder for all that is made beside models; by default data_dir, which is otherwise only read"""
    workers: int = os.cpu_count() or 1
    """worker processes, one thread each; 1 works in this process, which a crash in a decoder would end"""
    slices: bool = False
    """also write one file per slice, npy_slice/, for other scripts; doubles the disk space"""
    head_mm: float = 180.0
    """height of the head to keep, from the top, in millimetres; 0 keeps every slice"""
    window_low_hu: float = 0.0
    """CT: Hounsfield units that are mapped to 0"""
    window_high_hu: float = 600.0
    """CT: Hounsfield units that are mapped to 1"""
    storage: Storage = "float16"
    """blosc2 compresses without loss series files and vessel masks, not the files of single slices"""
    verify: bool = False
    """read every cached file whole and make those anew that are cut short or damaged"""
    dask: str = ""
    """address of a Dask scheduler (tcp://...) whose workers do the work and see the same folders; needs the
    extra `dask`"""


def main(config: PreprocessConfig) -> None:
    # What takes a while to import is imported here: --help does not wait for it.
    from aneurysm.parallel import start_server

    if config.workers > 1 and not config.dask:
        start_server("aneurysm.cache.preprocess")
    from aneurysm.cache.preprocess import preprocess_series
    from aneurysm.cache.preprocess_run import estimate_disk, preprocess_all, summarise
    from aneurysm.cache.tables import series_to_do
    from aneurysm.lock import locked

    paths = DataPaths(config.data_dir, config.cache_dir)
    settings = CacheSettings(config.head_mm, config.window_low_hu, config.window_high_hu)
    series_uids = series_to_do(paths)
    with locked(paths.cache, "preprocess_data"):
        needed, text = estimate_disk(paths, series_uids, settings, config.slices, config.storage)
        print(text)
        job = partial(preprocess_series, paths.root.absolute(), settings=settings, slices=config.slices,
                      storage=config.storage, verify=config.verify, cache_dir=paths.cache.absolute())  # fmt: skip
        outcomes, meta, errors = preprocess_all(job, paths, series_uids, needed, config.workers, config.dask)
    print(summarise(paths, outcomes, meta, errors, config.verify))


def command() -> None:
    run_script(main, PreprocessConfig, __doc__)


if __name__ == "__main__":
    command()
