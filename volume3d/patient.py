"""Reads patient and image type from a DICOM header, and encodes age, sex and weight as network inputs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom

from aneurysm.dicom.folders import files_below
from aneurysm.dicom.header import read_header
from aneurysm.dicom.series import whole_header
from aneurysm.dicom.series_type import TAGS as TYPE_TAGS
from aneurysm.dicom.series_type import series_type

_TAGS = ["PatientID", "PatientAge", "PatientSex", "PatientWeight", *TYPE_TAGS]
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}  # DICOM PS3.5 section 6.2, VR AS
# What anonymisers write into PatientID: it would turn many patients into one.
_NO_NAME = re.compile(r"(anon\w*|unknown|no ?(id|name)|none|null|nan|n/?a|removed|deleted|[x0_?.*-]+)?", re.I)
_KILOGRAMS = 0.3, 400.0
PATIENT_KEYS = ("age", "age_known", "sex", "sex_known", "weight", "weight_known")
SCALES = {"age": (55.0, 20.0), "weight": (75.0, 20.0)}  # years, kilograms: centre and scale of the inputs
SEXES = {"F": 1.0, "M": -1.0}


@dataclass(frozen=True)
class SeriesDescription:
    """Patient and image type of one series, from its first readable file; None if unknown. Units as in Entry.

    error  why there is no such file, or empty
    """

    modality: str | None = None
    subtype: str | None = None
    patient_id: str | None = None
    age: float | None = None
    sex: str | None = None
    weight: float | None = None
    error: str = ""


def describe_series(folder: Path) -> SeriesDescription:
    """The description from the first readable file of a folder. Never raises: problems are in `error`."""
    if not folder.is_dir():
        return SeriesDescription(error=f"{folder}: no such folder")
    return describe_files(files_below(folder), folder)


def describe_files(files: Iterable[Path], folder: Path) -> SeriesDescription:
    """As describe_series, for files that were found in a folder."""
    refused = []
    for file in files:
        try:
            read_header(file)  # raises if it is not an image
            return describe(whole_header(file, _TAGS))
        except Exception as error:  # a bad file must stop neither this series nor the others
            refused.append(str(error))
    found = f"{len(refused)} files, the first: {refused[0]}" if refused else "no file"
    return SeriesDescription(error=f"{folder}: expected DICOM images, found {found}")


def describe(header: pydicom.Dataset) -> SeriesDescription:
    """Patient and image type from one header."""
    modality, subtype = _text(header, "Modality").upper(), series_type(header)
    sex = _text(header, "PatientSex").upper()[:1]
    patient_id = _text(header, "PatientID")
    return SeriesDescription(
        modality=modality if modality in ("CT", "MR") else None,
        subtype=None if subtype == "unknown" else subtype,
        patient_id=None if _NO_NAME.fullmatch(patient_id) else patient_id,
        age=years(_text(header, "PatientAge")),
        sex=sex if sex in ("F", "M") else None,
        weight=_kilograms(_text(header, "PatientWeight")),
    )


def years(age: str) -> float | None:
    """Years from a DICOM age string: 067Y, 018M, 003W, 012D; a number alone is in years.

    None for anything else, and for 0, which anonymisers write.
    """
    match = re.fullmatch(r"(\d{1,3}(?:\.\d*)?)([DWMY]?)", age.strip().upper())
    return round(float(match[1]) * _YEARS[match[2] or "Y"], 2) or None if match else None


def _kilograms(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and _KILOGRAMS[0] <= weight <= _KILOGRAMS[1] else None


def _text(header: pydicom.Dataset, name: str) -> str:
    return str(header.get(name) or "").strip("\0 ")


def patient_inputs(age: float | None, sex: str | None, weight: float | None) -> dict[str, float]:
    """PATIENT_KEYS of a patient from age in years, sex (F or M) and weight in kilograms.

    *_known is 1, or 0 for an unknown value, whose number is then 0.
    """
    numbers = {"age": _scaled("age", age), "sex": SEXES.get(sex or ""), "weight": _scaled("weight", weight)}
    known = {f"{name}_known": float(number is not None) for name, number in numbers.items()}
    return {name: number or 0.0 for name, number in numbers.items()} | known


def _scaled(name: str, value: float | None) -> float | None:
    middle, spread = SCALES[name]
    return None if value is None or math.isnan(value) else (value - middle) / spread
