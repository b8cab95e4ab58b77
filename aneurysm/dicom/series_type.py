"""The type of a series (CTA, MRA, MRI T2, MRI T1post, CT, MR), from its header."""

from __future__ import annotations

import re

import pydicom

_TEXTS = (
    "SeriesDescription ProtocolName StudyDescription SequenceName PulseSequenceName RequestedProcedureDescription "
    "PerformedProcedureStepDescription AcquisitionContrast ContrastBolusAgent ImageType"
).split()
_CODES = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence", "PerformedProtocolCodeSequence")
_TIMES = ("EchoTime", "RepetitionTime")
TAGS = ("Modality", "AngioFlag", *_TEXTS, *_CODES, *_TIMES)  # all elements that series_type uses
_ANGIO = re.compile(r"angio|cta\b|mra\b|\btof|tof\b|\btof3d|fi3d|carotid|willis", re.I)
_T2 = re.compile(r"t2|flair|\btse2d|haste|ciss|fiesta", re.I)
_T1 = re.compile(r"t1|mprage|bravo|spgr|vibe", re.I)
_CONTRAST = re.compile(r"post|\+ ?c\b|\bgd\b|gad|contrast|\bkm\b|\bce\b", re.I)


def series_type(dataset: pydicom.Dataset) -> str:
    """One of CTA, MRA, MRI T2, MRI T1post, CT, MR, unknown, from the header of one image of the series.

    Uses descriptions, sequence names, procedure codes and the contrast agent first, then echo and repetition time.
    """
    modality = str(dataset.get("Modality") or "").upper()
    text = " ".join([*(str(dataset.get(name) or "") for name in _TEXTS), *_code_meanings(dataset)])
    contrast = bool(dataset.get("ContrastBolusAgent")) or bool(_CONTRAST.search(text))
    if modality == "CT":
        return "CTA" if _ANGIO.search(text) or contrast else "CT"
    if modality != "MR":
        return "unknown"
    return _mr_type(text, contrast, str(dataset.get("AngioFlag") or ""), *_times(dataset))


def _mr_type(text: str, contrast: bool, angio_flag: str, echo_ms: float, repetition_ms: float) -> str:
    if angio_flag == "Y" or _ANGIO.search(text):
        return "MRA"
    if _T2.search(text):
        return "MRI T2"
    if _T1.search(text):
        return "MRI T1post" if contrast else "MR"
    if echo_ms >= 60 and repetition_ms >= 1500:
        return "MRI T2"
    if contrast and 0 < echo_ms <= 30 and 0 < repetition_ms <= 1200:
        return "MRI T1post"
    return "MR"


def _times(dataset: pydicom.Dataset) -> tuple[float, float]:
    """Echo and repetition time in milliseconds; 0 if missing in the header."""
    found = []
    for name in _TIMES:
        try:
            found.append(float(dataset.get(name) or 0))
        except (TypeError, ValueError):
            found.append(0.0)
    return found[0], found[1]


def _code_meanings(dataset: pydicom.Dataset) -> list[str]:
    """The meanings of the header's procedure codes, as text."""
    found = []
    for name in _CODES:
        items = dataset.get(name)
        if isinstance(items, pydicom.Sequence):
            found += [_meaning(item) for item in items]
    return found


def _meaning(code: pydicom.Dataset) -> str:
    try:
        return str(code.get("CodeMeaning") or "")
    except Exception:  # pydicom raises a different error for each kind of damage
        return ""
