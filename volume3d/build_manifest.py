"""Step 1 of the second system: one manifest entry per series, from train.csv and the DICOM headers.

    python -m volume3d.build_manifest --data_dir data --workers 8

Reads  train.csv (without it, every folder in series/ is used), series/<uid>/, segmentations/ if there are any
Writes manifest.jsonl  one JSON object per series: aneurysm/folds/manifest.py
Age, sex and image type in train.csv override the header. A series that cannot be read gets a line, too.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from aneurysm.cache.tables import series_to_do, unlisted_series
from aneurysm.cache.vessel_masks import find_mask
from aneurysm.config import run_script
from aneurysm.folds.manifest import Entry, write_manifest
from aneurysm.labels import LABELS
from aneurysm.parallel import run_all
from aneurysm.paths import DataPaths
from aneurysm.tables import FROM_COMPETITION, read_table
from volume3d.patient import SeriesDescription, describe_series, years


@dataclass(frozen=True)
class ManifestConfig:
    data_dir: Path = Path("data")
    """folder that holds series/ and train.csv"""
    cache_dir: Path | None = None
    """folder for all that is made beside models; by default data_dir, which is otherwise only read"""
    workers: int = os.cpu_count() or 1
    """worker processes, one thread each"""


def main(config: ManifestConfig) -> None:
    paths = DataPaths(config.data_dir, config.cache_dir)
    series_uids = series_to_do(paths)
    unlisted = unlisted_series(paths, series_uids)
    if unlisted:
        print(f"{len(unlisted)} folders in {paths.series} are not in train.csv: left out, the first: {unlisted[0]}")
    done = run_all(partial(_describe, paths.series), series_uids, config.workers, died=_died)
    described = dict(tqdm(done, total=len(series_uids), unit="series", smoothing=0.1))
    train = _read_train(paths)
    entries = [make_entry(paths, uid, described[i], train.get(uid, {})) for i, uid in enumerate(series_uids)]
    write_manifest(paths.manifest, entries)
    print(summary(entries))
    errors = [described[i].error for i in range(len(entries)) if described[i].error]
    if errors:
        print(f"{len(errors)} series cannot be read, the first: {errors[0]}")
    print(paths.manifest)


def make_entry(paths: DataPaths, series_uid: str, described: SeriesDescription, row: dict) -> Entry:
    """The manifest entry of a series, from its header and its row of train.csv (column -> value; {} without one)."""
    known = {name: value for name, value in row.items() if not pd.isna(value)}
    subtype = str(known.get("Modality") or described.subtype or "") or None
    age, sex = years(str(known.get("PatientAge", ""))), str(known.get("PatientSex", ""))[:1].upper()
    mask = find_mask(paths, series_uid)
    return Entry(
        series_uid=series_uid,
        modality=subtype[:2] if subtype and subtype[:2] in ("CT", "MR") else described.modality,
        subtype=subtype,
        patient_id=described.patient_id or series_uid,
        patient_age=described.age if age is None else age,
        patient_sex=sex if sex in ("F", "M") else described.sex,
        patient_weight=described.weight,
        image_path=(paths.series / series_uid).relative_to(paths.root).as_posix(),
        segmentation_path=mask.relative_to(paths.root).as_posix() if mask else None,
        labels=np.array([known.get(label, np.nan) for label in LABELS], np.float32),
    )


def summary(entries: list[Entry]) -> str:
    """The counts to print."""
    patients = Counter(entry.patient_id for entry in entries)
    kinds = Counter(entry.subtype or "unknown" for entry in entries)
    largest = f", up to {max(patients.values())} series each" if patients else ""
    known = {
        "age": sum(entry.patient_age is not None for entry in entries),
        "sex": sum(entry.patient_sex is not None for entry in entries),
        "weight": sum(entry.patient_weight is not None for entry in entries),
        "vessel mask": sum(entry.segmentation_path is not None for entry in entries),
        "labels": sum(not np.isnan(entry.labels).any() for entry in entries),
    }
    return (
        f"{len(entries)} series of {len(patients)} patients{largest}\n"
        f"{', '.join(f'{kind} {n}' for kind, n in kinds.most_common())}\n"
        f"known: {', '.join(f'{name} {n}' for name, n in known.items())}"
    )


def _describe(folder: Path, series_uid: str) -> SeriesDescription:
    return describe_series(folder / series_uid)


def _died(series_uid: str) -> SeriesDescription:
    return SeriesDescription(error=f"series {series_uid}: its worker process was killed twice")


def _read_train(paths: DataPaths) -> dict[str, dict]:
    """Rows of train.csv by SeriesInstanceUID, {} without it; ValueError naming it if a known label is not 0 or 1."""
    if not paths.train_csv.exists():
        return {}
    train = read_table(paths.train_csv, ["SeriesInstanceUID"], FROM_COMPETITION).set_index("SeriesInstanceUID")
    for label in train.columns.intersection(LABELS):
        wrong = train[label][~train[label].isin([0, 1]) & train[label].notna()]
        if len(wrong):
            found = f"{wrong.iloc[0]} for series {wrong.index[0]}"
            raise ValueError(f"{paths.train_csv}: expected 0 or 1 as {label}, found {found}")
    return train.to_dict("index")


def command() -> None:
    run_script(main, ManifestConfig, __doc__)


if __name__ == "__main__":
    command()
