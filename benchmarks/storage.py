"""Disk space that the compressed form of the cache saves, and its cost in time.

    python benchmarks/storage.py --data_dir data

Reads npy_sequence/ of a data folder that preprocess_data.py has filled with --storage float16, and writes both forms of
some of its series to a temporary folder, removed at the end. Prints, for each round, the fraction of the bytes, CPU ms
to write a slice, CPU ms to read a window of three slices at random places with the files in memory (warm), and median
ms to read such a window after the files were dropped from memory (cold, on the disk of --folder).
Last, it prints the time for the checksum of a slice. One process, one thread.
"""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aneurysm.cache.cache import Cache, open_cache
from aneurysm.cache.config import Storage
from aneurysm.cache.disk import sample_of
from aneurysm.cache.storage import ENDINGS, write_slices
from aneurysm.config import run_script
from aneurysm.paths import DataPaths

ROUNDS = 3


@dataclass(frozen=True)
class BenchmarkConfig:
    data_dir: Path = Path("data")
    """folder that preprocess_data.py has filled"""
    n_series: int = 12
    """series, spread evenly over those in the cache"""
    n_windows: int = 400
    """windows read in each round"""
    folder: Path = Path(tempfile.gettempdir())
    """where the temporary folder is made: on the disk to be measured"""


def main(config: BenchmarkConfig) -> None:
    source = open_cache(config.data_dir)
    series_uids = sample_of(source.series_uids(), config.n_series)
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        roots = {storage: Path(folder) / storage for storage in ENDINGS}
        rounds = [
            {storage: measure(source, series_uids, root, storage, config, seed) for storage, root in roots.items()}
            for seed in range(ROUNDS)
        ]
    n_slices = sum(source.n_slices(uid) for uid in series_uids)
    print(f"{len(series_uids)} series, {n_slices} slices, {config.n_windows} windows of 3 slices")
    print("  form      share   write CPU ms/slice   warm CPU ms/window   cold ms/window")
    for found in rounds:
        for storage, (n_bytes, write_ms, warm_ms, cold_ms) in found.items():
            share = n_bytes / found["float16"][0]
            print(f"  {storage:8}  {share:5.3f}   {write_ms:18.2f}   {warm_ms:18.2f}   {cold_ms:14.2f}")
    image = source.window(series_uids[0], [source.n_slices(series_uids[0]) // 2])
    start = time.process_time()
    for _ in range(100):
        zlib.crc32(image)
    print(f"CRC-32 of a float16 slice: {10 * (time.process_time() - start):.2f} ms")


def measure(
    source: Cache, series_uids: list[str], root: Path, storage: Storage, config: BenchmarkConfig, seed: int
) -> tuple[int, float, float, float]:
    """Bytes on disk, CPU ms to write a slice, CPU ms to read a window from memory, ms to read one from the disk."""
    paths = [DataPaths(root).npy_sequence / f"{uid}{ENDINGS[storage]}" for uid in series_uids]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    seconds, n_slices = 0.0, 0
    for uid, path in zip(series_uids, paths, strict=True):
        images = source.window(uid, range(source.n_slices(uid)))
        start = time.process_time()
        write_slices(path, storage, np.float16, len(images), images)
        seconds, n_slices = seconds + time.process_time() - start, n_slices + len(images)
    os.sync()
    cache, draw = open_cache(root), np.random.default_rng(seed)
    owners = draw.choice(series_uids, config.n_windows)
    places = [(str(uid), int(draw.integers(1, cache.n_slices(uid) - 1))) for uid in owners]
    forget(paths)
    cold_ms = 1e3 * float(np.median(read(cache, places, time.perf_counter)))
    for path in paths:
        path.read_bytes()
    warm_ms = 1e3 * float(np.mean(read(cache, places, time.process_time)))
    return sum(path.stat().st_size for path in paths), 1e3 * seconds / n_slices, warm_ms, cold_ms


def forget(paths: list[Path]) -> None:
    """Asks the system to drop these files from memory."""
    for path in paths:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(cache: Cache, places: list[tuple[str, int]], clock: Callable[[], float]) -> list[float]:
    """Seconds to read each window, by this clock."""
    took = []
    for uid, k in places:
        start = clock()
        cache.window(uid, [k - 1, k, k + 1])
        took.append(clock() - start)
    return took


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
