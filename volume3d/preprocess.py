"""Step 3 of the second system: DICOM series to volumes of one orientation, a few megabytes each.

    python -m volume3d.preprocess --data_dir data --workers 8 --z_mm 3 --size 128

Reads  manifest.jsonl, series/<uid>/, segmentations/ if there are any
Writes npy_volume/<uid>.npy (Z, H, W) in [0, 1], <uid>_mask.npy and <uid>.json: volume3d/make_volume.py
       volume_errors.csv  one row per series that has no volume
A killed run continues when it is started again. A series is redone when its files or these settings change.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.cache.disk import require_disk, sample_of
from aneurysm.cache.jobs import run_jobs
from aneurysm.cache.preprocess import Outcome, died
from aneurysm.cache.tables import error_rows
from aneurysm.config import run_script, subset
from aneurysm.dicom.series import read_series
from aneurysm.folds.manifest import Entry, read_manifest
from aneurysm.lock import locked
from aneurysm.paths import DataPaths
from aneurysm.tables import write_csv
from volume3d.config import VolumeSettings
from volume3d.make_volume import make_volume


@dataclass(frozen=True)
class PreprocessConfig(VolumeSettings):
    data_dir: Path = Path("data")
    """folder that holds series/"""
    cache_dir: Path | None = None
    """folder for all that is made beside models; by default data_dir, which is otherwise only read"""
    workers: int = os.cpu_count() or 1
    """worker processes, one thread each"""
    dask: str = ""
    """address of a Dask scheduler (tcp://...) whose workers do the work and see the same folders; needs the
    extra `dask`"""


def main(config: PreprocessConfig) -> None:
    paths, settings = DataPaths(config.data_dir, config.cache_dir), subset(VolumeSettings, config)
    entries = read_manifest(paths.manifest)
    with locked(paths.cache, "volume3d_preprocess"):
        errors, was_there = preprocess(config, paths, settings, entries)
    n_made = len(entries) - len(errors)
    print(f"{n_made} series in {paths.npy_volume} ({was_there} cached before), {len(errors)} errors")
    for kind, rows in errors.groupby("kind"):
        print(f"{len(rows)} x {kind}, the first: {rows.message.iloc[0]}")
    if len(errors):
        print(f"all errors: {paths.volume_errors_csv}")


def preprocess(
    config: PreprocessConfig, paths: DataPaths, settings: VolumeSettings, entries: Sequence[Entry]
) -> tuple[pd.DataFrame, int]:
    """The rows of volume_errors.csv, and the number of volumes that were cached before."""
    needed = estimate_bytes(config.data_dir, entries, settings)
    print(f"{len(entries)} series, about {needed / 1e9:.1f} GB of volumes")
    require_disk(paths.cache, needed, [paths.npy_volume], "keep less (--size, --z_mm, --head_mm)")

    job = partial(make_volume, paths.root.absolute(), settings=settings, cache_dir=paths.cache.absolute())
    folders = (paths.npy_volume, paths.cache)
    outcomes = run_jobs(job, entries, config.workers, _died, config.dask, folders, paths.volume_errors_csv)
    errors = error_rows(outcomes)
    write_csv(errors, paths.volume_errors_csv)
    return errors, sum(outcome.was_cached for outcome in outcomes)


def estimate_bytes(data_dir: Path, entries: Sequence[Entry], settings: VolumeSettings) -> int:
    """Estimated size of these series' volumes, from the headers of a few; the head is not looked for."""
    if not entries:
        return 0
    heights_mm = [_height_mm(data_dir / entry.image_path) for entry in sample_of(entries)]
    if settings.head_mm > 0:
        heights_mm = np.minimum(heights_mm, settings.head_mm)
    voxels = np.mean(heights_mm) / settings.z_mm * settings.size**2
    n_masks = sum(entry.segmentation_path is not None for entry in entries)
    return int(voxels * (len(entries) * np.dtype(settings.dtype).itemsize + n_masks))


def _height_mm(folder: Path) -> float:
    """Height of all axial slices of a series; 0 if it cannot be read."""
    try:
        geometry = read_series(folder, select=()).geometry.turned_to("axial")
    except Exception:  # reported when the volume of this series is made
        return 0.0
    return float(np.ptp(geometry.positions_mm(0))) + geometry.canonical_spacing[0]


def _died(entry: Entry) -> Outcome:
    return died(entry.series_uid)


def command() -> None:
    run_script(main, PreprocessConfig, __doc__)


if __name__ == "__main__":
    command()
