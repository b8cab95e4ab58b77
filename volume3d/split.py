"""Splits series into train, val and test, with all series of a patient on one side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.folds.folds import assign_parts, strata
from aneurysm.folds.manifest import Entry, manifest_table
from aneurysm.tables import write_csv

SPLITS = ("train", "val", "test")


def stratified_split(entries: Sequence[Entry], ratios: Sequence[float], seed: int) -> dict[str, str]:
    """Split of each series, by patient; `ratios` are the fractions of train, val and test, on any scale.

    Iterative stratification balances labels, image types and sexes. Raises ValueError if the ratios are invalid or
    there are fewer patients than splits.
    """
    if len(ratios) != len(SPLITS) or min(ratios) < 0 or ratios[0] <= 0 or not np.isfinite(ratios).all():
        raise ValueError(f"ratios: expected {len(SPLITS)} shares, the first above 0, found {list(ratios)}")
    names = [name for name, ratio in zip(SPLITS, ratios, strict=True) if ratio]
    shares = [round(ratio / sum(ratios), 6) for ratio in ratios if ratio]  # rounded: 0.7 and 70 of 100 agree
    n_patients = len({entry.patient_id for entry in entries})
    if n_patients < len(names):
        raise ValueError(f"expected at least {len(names)} patients for {', '.join(names)}, found {n_patients}")
    part = assign_parts(manifest_table(entries), shares, seed)
    return {entry.series_uid: names[number] for entry, number in zip(entries, part, strict=True)}


def split_from_folds(entries: Sequence[Entry], folds: pd.DataFrame, held_out: int) -> dict[str, str]:
    """Fold `held_out` of create_folds.py's table is val, the others are train.

    Raises ValueError naming a series that is missing from the manifest or from the folds.
    """
    fold_of = dict(zip(folds.SeriesInstanceUID, folds.fold, strict=True))
    ids = {entry.series_uid for entry in entries}
    for known, other, where in ((ids, fold_of.keys(), "folds"), (fold_of.keys(), ids, "manifest")):
        missing = sorted(known - other)
        if missing:
            raise ValueError(f"{len(missing)} series are not in the {where}, the first: {missing[0]}")
    return {entry.series_uid: "val" if fold_of[entry.series_uid] == held_out else "train" for entry in entries}


def refuse_leak(entries: Sequence[Entry], split: dict[str, str]) -> None:
    """Raises ValueError naming the patient and the series if a patient is in more than one split."""
    series_of: dict[str, list[str]] = {}
    for entry in entries:
        series_of.setdefault(entry.patient_id, []).append(entry.series_uid)
    leaks = {patient: uids for patient, uids in series_of.items() if len({split[uid] for uid in uids}) > 1}
    if leaks:
        patient, uids = next(iter(leaks.items()))
        where = ", ".join(f"{uid} in {split[uid]}" for uid in uids)
        raise ValueError(
            f"{len(leaks)} patients are in more than one split, the first: patient {patient}, series {where}"
        )


def split_counts(entries: Sequence[Entry], split: dict[str, str]) -> pd.DataFrame:
    """Counts of each label, image type and sex, of all series and of all patients; one column per split."""
    table = manifest_table(entries)
    where = table.SeriesInstanceUID.map(split)
    counts = strata(table).assign(series=1).groupby(where).sum()
    counts["patients"] = table.groupby(where).patient_id.nunique()
    return counts.reindex(list(SPLITS), fill_value=0).T


def write_split(path: Path, split: dict[str, str]) -> None:
    """Writes volume_split.csv: SeriesInstanceUID, split."""
    write_csv(pd.DataFrame(split.items(), columns=["SeriesInstanceUID", "split"]), path)


def read_split(path: Path) -> dict[str, str]:
    """Split (train, val or test) of each series. Raises ValueError naming the file if it is missing or damaged."""
    if not path.exists():
        raise ValueError(f"{path}: not there; has volume3d.split_patients run?")
    try:
        table = pd.read_csv(path, dtype=str)
    except ValueError as error:  # pandas' errors are ValueErrors that do not name the file
        raise ValueError(f"{path}: expected a CSV table, {error}") from error
    if list(table.columns) != ["SeriesInstanceUID", "split"]:
        raise ValueError(f"{path}: expected the columns SeriesInstanceUID, split, found {', '.join(table.columns)}")
    wrong = table[~table.split.isin(SPLITS) | table.SeriesInstanceUID.isna() | table.SeriesInstanceUID.duplicated()]
    if len(wrong):
        found = ", ".join(map(str, wrong.iloc[0]))
        raise ValueError(f"{path}: expected each series once, in {', '.join(SPLITS)}, found {found}")
    return dict(zip(table.SeriesInstanceUID, table.split, strict=True))
