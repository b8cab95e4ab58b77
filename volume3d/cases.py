"""The series that the second system trains and evaluates on: labels, patient, and fold or split of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.folds.manifest import Entry, read_manifest
from aneurysm.folds.tables import read_folds
from aneurysm.labels import LABELS, PRESENT
from aneurysm.paths import DataPaths
from volume3d.patient import PATIENT_KEYS, patient_inputs
from volume3d.split import read_split
from volume3d.volume import volume_path


@dataclass(frozen=True)
class Cases:
    """The series in `data_dir`, one row of `table` each.

    Columns: SeriesInstanceUID, part (a fold, or train, val or test), series_type, plane (or None), the 14 labels (NaN
    where unknown), PATIENT_KEYS, has_volume.
    """

    data_dir: Path
    table: pd.DataFrame

    def of(self, part: int | str) -> Cases:
        """The series of one part."""
        return self._where(self.table.part == part)

    def without(self, *parts: int | str) -> Cases:
        """The series of all other parts."""
        return self._where(~self.table.part.isin(parts))

    def with_volume(self) -> Cases:
        """The series that have a volume; ValueError naming the folder if there are none."""
        if not self.table.has_volume.any():
            folder = DataPaths(self.data_dir).npy_volume
            raise ValueError(f"{folder}: expected volumes of {len(self.table)} series; has volume3d.preprocess run?")
        return self._where(self.table.has_volume)

    def fully_labelled(self) -> Cases:
        """The series whose labels are all known."""
        return self._where(self.table[list(LABELS)].notna().all(axis=1))

    def first(self, n: int) -> Cases:
        """About n series, with the same fraction of each part and of series with and without an aneurysm; 0 for all."""
        if not n:
            return self
        group = self.table.groupby(["part", PRESENT], dropna=False)
        number, size = group.cumcount(), group["part"].transform("size")
        return self._where(number < np.ceil(n * size / len(self.table)))

    @property
    def labels(self) -> np.ndarray:
        """(series, 14) float32: 0, 1, or NaN."""
        return self.table[list(LABELS)].to_numpy(np.float32)

    @property
    def prevalence(self) -> np.ndarray:
        """(14,) fraction of positives among known labels; half a series is added to each class to keep it in (0, 1)."""
        known = np.isfinite(self.labels)
        return (np.nansum(self.labels, axis=0) + 0.5) / (known.sum(axis=0) + 1)

    def __len__(self) -> int:
        return len(self.table)

    def _where(self, rows: pd.Series) -> Cases:
        return Cases(self.data_dir, self.table[rows].reset_index(drop=True))


def cases_of_folds(data_dir: Path, folds: int) -> Cases:
    """The series of train_{folds}_folds.csv with its labels; `part` is the fold.

    Raises ValueError naming the file if one is missing, or if the manifest lacks a series.
    """
    series = read_folds(data_dir, folds)
    path = DataPaths(data_dir).manifest
    entries = {entry.series_uid: entry for entry in read_manifest(path)}
    lacking = [uid for uid in series.SeriesInstanceUID if uid not in entries]
    if lacking:
        raise ValueError(f"{path}: expected {len(series)} series, found no {lacking[0]} and {len(lacking) - 1} others")
    described = _described(data_dir, [entries[uid] for uid in series.SeriesInstanceUID])
    columns = series[["series_type", "plane", *LABELS]].assign(part=series.fold)
    return Cases(data_dir, described.assign(**{name: columns[name] for name in columns}))


def cases_of_split(data_dir: Path, path: Path) -> Cases:
    """The series of the manifest; `part` is train, val or test, from a file of split_patients.

    Raises ValueError naming the file if one is missing, or if the split lacks a series.
    """
    entries, split = read_manifest(DataPaths(data_dir).manifest), read_split(path)
    lacking = [entry.series_uid for entry in entries if entry.series_uid not in split]
    if lacking:
        raise ValueError(f"{path}: expected {len(entries)} series, found no {lacking[0]} and {len(lacking) - 1} others")
    table = _described(data_dir, entries)
    labels = pd.DataFrame(np.array([entry.labels for entry in entries]).reshape(-1, len(LABELS)), columns=LABELS)
    part = [split[entry.series_uid] for entry in entries]
    return Cases(data_dir, table.join(labels).assign(part=part, series_type=[e.subtype for e in entries], plane=None))


def split_checksum(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a split's content; ValueError as read_split."""
    return hashlib.sha256(repr(sorted(read_split(path).items())).encode()).hexdigest()[:16]


def _described(data_dir: Path, entries: Sequence[Entry]) -> pd.DataFrame:
    rows = [{"SeriesInstanceUID": entry.series_uid, "has_volume": volume_path(data_dir, entry.series_uid).exists()}
            | patient_inputs(entry.patient_age, entry.patient_sex, entry.patient_weight)
            for entry in entries]  # fmt: skip
    return pd.DataFrame(rows, columns=["SeriesInstanceUID", "has_volume", *PATIENT_KEYS])
