"""data/manifest.jsonl: one line per series with its patient, modality, paths and labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.paths import atomic_write

# The key of each label, in the order of LABELS: left_infraclinoid_internal_carotid_artery, ..., label.
LABEL_KEYS = (*(re.sub(r"\W+", "_", name.lower()) for name in LOCATIONS), "label")


@dataclass(frozen=True)
class Entry:
    """One series; unknown values are None (NaN in `labels`).

    modality           CT or MR
    subtype            CT, CTA, MR, MRA, MRI T1post or MRI T2
    patient_id         the SeriesInstanceUID if the header names no patient
    patient_age        years
    patient_sex        F or M
    patient_weight     kilograms
    image_path         folder of the DICOM files, relative to the data folder
    segmentation_path  vessel mask, relative to the data folder
    labels             (14,) float32, 0 or 1, in the order of LABELS
    """

    series_uid: str
    modality: str | None
    subtype: str | None
    patient_id: str
    patient_age: float | None
    patient_sex: str | None
    patient_weight: float | None
    image_path: str
    segmentation_path: str | None
    labels: np.ndarray


_FIELDS = {name: name for name in Entry.__annotations__ if name != "labels"} | {"series_uid": "SeriesInstanceUID"}
_TEXTS = ("SeriesInstanceUID", "patient_id", "image_path")  # never null
_NUMBERS = ("patient_age", "patient_weight")


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Writes the entries atomically, one JSON object per line."""
    with atomic_write(path) as beside:
        beside.write_text("".join(json.dumps(_to_json(entry)) + "\n" for entry in entries))


def read_manifest(path: Path) -> list[Entry]:
    """The entries of a manifest.

    Raises ValueError naming the file if it is missing, and also the line if it is damaged or repeats a series.
    """
    if not path.exists():
        raise ValueError(f"{path}: not there; has volume3d.build_manifest run?")
    entries: dict[str, Entry] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            entry = _from_json(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        if entry.series_uid in entries:
            raise ValueError(f"{path}, line {number}: expected each series once, found {entry.series_uid} again")
        entries[entry.series_uid] = entry
    return list(entries.values())


def manifest_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """The entries in the columns of train.csv, for the functions that make folds; missing labels count as 0."""
    labels = np.nan_to_num(np.array([entry.labels for entry in entries]).reshape(-1, len(LABELS))).astype(int)
    table = pd.DataFrame(labels, columns=list(LABELS))
    table.insert(0, "SeriesInstanceUID", [entry.series_uid for entry in entries])
    sex = {"F": "Female", "M": "Male", None: None}
    return table.assign(
        patient_id=[entry.patient_id for entry in entries],
        Modality=[entry.subtype for entry in entries],
        PatientSex=[sex[entry.patient_sex] for entry in entries],
    )


def with_manifest(series: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """`series` with patient_id from a manifest, and Modality and PatientSex if it lacks these columns.

    A patient_id that the manifest lacks stays as it is.
    """
    table = manifest_table(entries).set_index("SeriesInstanceUID")
    found = {name: series.SeriesInstanceUID.map(table[name]) for name in ("patient_id", "Modality", "PatientSex")}
    if "patient_id" in series:
        found["patient_id"] = found["patient_id"].fillna(series.patient_id)
    return series.assign(
        **{name: values for name, values in found.items() if name == "patient_id" or name not in series}
    )


def _to_json(entry: Entry) -> dict:
    """A JSON object with labels as whole numbers and null for unknown values."""
    labels = (None if np.isnan(value) else int(value) for value in entry.labels)
    return {key: getattr(entry, name) for name, key in _FIELDS.items()} | dict(zip(LABEL_KEYS, labels, strict=True))


def _from_json(saved: object) -> Entry:
    if not isinstance(saved, dict):
        raise ValueError(f"expected a JSON object, found {type(saved).__name__}")
    missing = [key for key in (*_FIELDS.values(), *LABEL_KEYS) if key not in saved]
    if missing:
        raise ValueError(f"expected the keys of a series, found no {', '.join(missing)}")
    empty = [key for key in _TEXTS if not isinstance(saved[key], str) or not saved[key].strip()]
    if empty:
        raise ValueError(f"expected a text as {empty[0]}, found {saved[empty[0]]!r}")
    wrong = [key for key in LABEL_KEYS if saved[key] not in (0, 1, None)]
    if wrong:
        raise ValueError(f"expected 0, 1 or null as {wrong[0]}, found {saved[wrong[0]]!r}")
    if saved["patient_sex"] not in ("F", "M", None):
        raise ValueError(f"expected F, M or null as patient_sex, found {saved['patient_sex']!r}")
    labels = np.array([saved[key] for key in LABEL_KEYS], np.float32)  # None becomes NaN
    numbers = {key: None if saved[key] is None else float(saved[key]) for key in _NUMBERS}
    return Entry(**({name: saved[key] for name, key in _FIELDS.items()} | numbers), labels=labels)
