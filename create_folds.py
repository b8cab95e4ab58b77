"""Step 2: folds by patient, and the spots that stage 1 is trained on.

    python create_folds.py --data_dir data --folds 5 --seed 42
    python create_folds.py --data_dir data --folds 5 --manifest data/manifest.jsonl

Reads  train.csv, train_localizers.csv, train_meta.csv, npy_sequence/<uid>.json; with --manifest manifest.jsonl
Writes train_<folds>_folds.csv         train.csv, the columns of train_meta.csv, fold
       train_stage1_<folds>_folds.csv  one row a spot: series, fold, kind, slice, position_mm, x, y, location
       localizer_errors.csv            localizers that have no place in the cache, and why
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.labels import SAFE_MM
from aneurysm.paths import DataPaths


@dataclass(frozen=True)
class FoldsConfig:
    data_dir: Path = Path("data")
    """folder that holds train.csv and train_localizers.csv"""
    cache_dir: Path | None = None
    """folder for all that is made beside models; by default data_dir, which is otherwise only read"""
    folds: int = 5
    """number of folds"""
    seed: int = 42
    """seed of the folds and of the negative spots"""
    negatives: int = 12
    """negative spots of each series, at most"""
    safe_mm: float = SAFE_MM
    """negatives keep this far from every localizer, in millimetres along the slice axis"""
    manifest: Path | None = None
    """manifest.jsonl of volume3d.build_manifest, whose patients are then kept together instead of train_meta.csv's"""


def main(config: FoldsConfig) -> None:
    from aneurysm.lock import locked

    with locked(DataPaths(config.data_dir, config.cache_dir).cache, "create_folds"):
        create_folds(config)


def create_folds(config: FoldsConfig) -> None:
    """Writes the tables and prints their counts."""
    # What takes a while to import is imported here: --help does not wait for it.
    import pandas as pd

    from aneurysm.cache.cache import open_cache
    from aneurysm.folds.folds import assign_folds, fold_counts
    from aneurysm.folds.localizers import place_localizers, read_localizers
    from aneurysm.folds.manifest import read_manifest, with_manifest
    from aneurysm.folds.spots import negative_spots, positive_spots
    from aneurysm.folds.tables import labelled_series
    from aneurysm.tables import write_csv

    cache = open_cache(config.data_dir, config.cache_dir)
    series = labelled_series(cache.paths)
    if config.manifest:
        series = with_manifest(series, read_manifest(config.manifest))
    series["fold"] = assign_folds(series, config.folds, config.seed)
    counts = fold_counts(series, series.fold, config.folds)
    print(counts.to_string())
    if not counts.even.all():
        print(f"not even: {', '.join(counts.index[~counts.even])}")

    cached = series[series.n_slices.notna()]
    localizers = read_localizers(cache.paths.localizers_csv)
    placed, unplaced = place_localizers(cache, localizers, set(cached.SeriesInstanceUID))
    positions = {uid: cache.position_mm(uid) for uid in cached.SeriesInstanceUID}
    positives = positive_spots(cached, placed, positions)
    negatives = negative_spots(cached, positives, unplaced, positions, config.negatives, config.safe_mm, config.seed)
    spots = pd.concat([positives, negatives]).sort_values(["SeriesInstanceUID", "slice"], kind="stable")
    print(spots.groupby(["fold", "kind"]).size().unstack(fill_value=0).to_string())
    print(f"{len(unplaced)} localizers without a place, {len(series) - len(cached)} series that are not in the cache")

    write_csv(series, cache.paths.cache / f"train_{config.folds}_folds.csv")
    write_csv(spots, cache.paths.cache / f"train_stage1_{config.folds}_folds.csv")
    write_csv(unplaced, cache.paths.localizer_errors_csv)


def command() -> None:
    run_script(main, FoldsConfig, __doc__)


if __name__ == "__main__":
    command()
