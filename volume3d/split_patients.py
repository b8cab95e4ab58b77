"""Step 2 of the second system: train, val and test, with all series of a patient on one side.

    python -m volume3d.split_patients --data_dir data --ratios 0.7,0.15,0.15 --seed 42
    python -m volume3d.split_patients --data_dir data --from_folds 0 --folds 5

Reads  manifest.jsonl; with --from_folds train_<folds>_folds.csv
Writes volume_split.csv  SeriesInstanceUID, split
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.folds.manifest import read_manifest
from aneurysm.folds.tables import chosen_folds, read_folds
from aneurysm.paths import DataPaths
from volume3d.split import refuse_leak, split_counts, split_from_folds, stratified_split, write_split


@dataclass(frozen=True)
class SplitConfig:
    data_dir: Path = Path("data")
    """folder of the competition's files"""
    cache_dir: Path | None = None
    """folder for all that is made beside models; by default data_dir, which is otherwise only read"""
    ratios: tuple[float, ...] = (0.7, 0.15, 0.15)
    """shares of train, val and test"""
    seed: int = 42
    """seed of the split"""
    from_folds: int | None = None
    """instead: this fold of create_folds.py is val, the others are train, so that both systems are evaluated alike"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""


def main(config: SplitConfig) -> None:
    paths = DataPaths(config.data_dir, config.cache_dir)
    entries = read_manifest(paths.manifest)
    if config.from_folds is None:
        split = stratified_split(entries, config.ratios, config.seed)
    else:
        (fold,) = chosen_folds(str(config.from_folds), config.folds)
        split = split_from_folds(entries, read_folds(paths.cache, config.folds), fold)
    refuse_leak(entries, split)
    print(split_counts(entries, split).to_string())
    unknown = sum(bool((entry.labels != entry.labels).any()) for entry in entries)
    if unknown:
        print(f"{unknown} series have labels that nobody knows, counted as 0")
    write_split(paths.volume_split_csv, split)
    print(paths.volume_split_csv)


def command() -> None:
    run_script(main, SplitConfig, __doc__)


if __name__ == "__main__":
    command()
