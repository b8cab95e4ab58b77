"""Estimates how much disk a cache will need, before preprocessing starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from aneurysm.cache.cache import SLICE_BYTES
from aneurysm.cache.config import CacheSettings, Storage
from aneurysm.cache.slices import cached_slices, find_slices
from aneurysm.cache.storage import ENDINGS, compressed
from aneurysm.cache.vessel_masks import find_mask
from aneurysm.dicom.mapping import SIZE
from aneurysm.dicom.series import read_series
from aneurysm.paths import DataPaths

Item = TypeVar("Item")

SAMPLE = 16  # series whose headers are read for the estimate
PACKED = 8  # series from which slices are compressed for the estimate


def estimate_bytes(paths: DataPaths, series_uids: Sequence[str], head_mm: float, copies: float) -> int:
    """Estimated bytes of the cache of these series, from the headers of a sample and the number of files of all.

    Counts the top `head_mm` of each axial series (0: all of it), without finding the head. `copies` is the size of a
    series' cached files (series file, see stored_share, and slice files) in units of the float16 array of its slices.
    Vessel masks, which few series have, are counted uncompressed.
    """
    if not series_uids:
        return 0
    sample = sample_of(series_uids)
    n_slices = sum(_expected_slices(paths.series / uid, head_mm) for uid in sample)
    slices_per_file = n_slices / max(1, sum(_count_files(paths.series / uid) for uid in sample))
    n_files = {uid: _count_files(paths.series / uid) for uid in series_uids}
    n_masked = sum(n for uid, n in n_files.items() if find_mask(paths, uid))
    all_slices, masked_slices = int(slices_per_file * sum(n_files.values())), int(slices_per_file * n_masked)
    return int(all_slices * SLICE_BYTES * copies) + masked_slices * SIZE * SIZE


def stored_share(paths: DataPaths, series_uids: Sequence[str], settings: CacheSettings, storage: Storage) -> float:
    """Size of a series file relative to a float16 array: 1, or measured on three slices of a few of these series.

    1 if none of these can be read.
    """
    if storage == "float16":
        return 1.0
    packed = [n for uid in sample_of(series_uids, PACKED) for n in _packed_bytes(paths.series / uid, settings)]
    return float(np.mean(packed)) / SLICE_BYTES if packed else 1.0


def _packed_bytes(folder: Path, settings: CacheSettings) -> list[int]:
    try:
        series = read_series(folder, select=())
        window = find_slices(series, settings)
        indices = np.linspace(0, series.crop.count - 1, 5).astype(int)[1:-1]
        return [len(compressed(image)) for image in cached_slices(series, window, indices.tolist())]
    except (ValueError, OSError):
        return []


def sample_of(items: Sequence[Item], n: int = SAMPLE) -> list[Item]:
    """Up to `n` items, spread evenly, for an estimate."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, n).astype(int))] if items else []


def require_disk(root: Path, needed: int, caches: Sequence[Path], remedy: str) -> None:
    """Raises ValueError with needed and free space if the disk of `root` cannot hold `needed` bytes.

    Cached files that are already in the folders `caches` count as free. `remedy` ends the message.
    """
    free = shutil.disk_usage(root).free
    if needed <= free:
        return
    held = sum(f.stat().st_size for folder in caches for f in folder.rglob("*") if f.suffix in ENDINGS.values())
    if needed > free + held:
        raise ValueError(
            f"{root}: the cache needs about {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free and the "
            f"cache holds {held / 1e9:.1f} GB; {remedy}"
        )


def _count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _expected_slices(folder: Path, head_mm: float) -> int:
    try:
        geometry = read_series(folder, select=()).geometry
    except ValueError:
        return 0
    n_slices = geometry.canonical_shape[0]
    if head_mm <= 0 or geometry.plane != "axial":
        return n_slices
    return min(n_slices, int(head_mm / geometry.canonical_spacing[0]) + 1)
