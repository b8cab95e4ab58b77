"""How much disk a cache will need, said before the work begins."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from aneurysm.data.cache import SLICE_BYTES
from aneurysm.data.mapping import SIZE
from aneurysm.data.series import read_series
from aneurysm.data.vessel_masks import find_mask
from aneurysm.paths import DataPaths

Item = TypeVar("Item")

SAMPLE = 32  # series whose headers are read for the estimate


def estimate_bytes(paths: DataPaths, series_uids: Sequence[str], head_mm: float, copies: int) -> int:
    """Bytes that the cache of these series takes, from the headers of a sample and the number of files of all.

    Counts the top `head_mm` of each axial series (0: all of it). An estimate: the head itself is not looked for.
    """
    if not series_uids:
        return 0
    sample = sample_of(series_uids)
    n_slices = sum(_expected_slices(paths.series / uid, head_mm) for uid in sample)
    slices_per_file = n_slices / max(1, sum(_count_files(paths.series / uid) for uid in sample))
    n_files = {uid: _count_files(paths.series / uid) for uid in series_uids}
    n_masked = sum(n for uid, n in n_files.items() if find_mask(paths, uid))
    all_slices, masked_slices = int(slices_per_file * sum(n_files.values())), int(slices_per_file * n_masked)
    return all_slices * SLICE_BYTES * copies + masked_slices * SIZE * SIZE


def sample_of(items: Sequence[Item]) -> list[Item]:
    """A few of the items, spread evenly, for an estimate."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, SAMPLE).astype(int))]


def require_disk(root: Path, needed: int, caches: Sequence[Path], remedy: str) -> None:
    """Raises ValueError saying how much is missing where the disk of `root` cannot hold `needed` bytes.

    What lies in the folders `caches` already counts as room. `remedy` is what a person can do.
    """
    free = shutil.disk_usage(root).free
    if needed <= free:
        return
    held = sum(f.stat().st_size for folder in caches for f in folder.rglob("*.npy"))
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
