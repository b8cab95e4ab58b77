"""The report of one run: a page, a JSON file and DICOM objects for each series, a list of all, and predictions.csv."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aneurysm.dicom.find import SeriesFiles
from aneurysm.escape import cell
from aneurysm.inference.pictures import Picture
from aneurysm.inference.prediction import Prediction
from aneurysm.inference.record import FORMAT
from aneurysm.labels import LABELS, PRESENT
from aneurysm.paths import CannotWrite, atomic_write
from aneurysm.report.dicom_seg import write_seg
from aneurysm.report.dicom_source import need_highdicom
from aneurysm.report.dicom_sr import write_sr
from aneurysm.report.nifti import write_map_nifti, write_series_nifti
from aneurysm.report.page import page_name, write_index, write_page
from aneurysm.report.thumbnail import thumbnail
from aneurysm.tables import write_csv

Record = dict[str, Any]


def write_series(out: Path, record: Record, pictures: Sequence[Picture]) -> Path:
    """Writes <uid>.html, then <uid>.json, into the folder; returns the page. The record is given its `thumbnail`."""
    record["thumbnail"] = thumbnail(pictures)
    page = out / page_name(record)
    write_page(page, record, pictures)
    with atomic_write(page.with_suffix(".json")) as beside:
        beside.write_text(json.dumps(record, indent=1, allow_nan=False))
    return page


def write_objects(
    out: Path, prediction: Prediction, record: Record, kinds: Sequence[str], min_probability: float
) -> list[str]:
    """Writes the DICOM objects <uid>_sr.dcm and <uid>_seg.dcm, as far as they are among `kinds` (sr, seg).

    Findings below `min_probability` are left out. Objects of an earlier run do not stay. Returns sentences on those
    that could not be written. Raises ValueError where highdicom is missing.
    """
    if not kinds:
        return []
    need_highdicom()
    problems = []
    for kind in kinds:
        path = out / page_name(record).replace(".html", f"_{kind}.dcm")
        path.unlink(missing_ok=True)  # of an earlier run, which may have said something else
        if prediction.failure:
            continue
        write = {"sr": write_sr, "seg": write_seg}[kind]
        try:
            write(prediction, path, record["bundle"]["sha256"], min_probability)
        except ValueError as error:
            problems.append(f"{path.name} could not be written: {error}")
        except Exception as error:  # highdicom's and pydicom's are of all kinds: the page is written all the same
            problems.append(f"{path.name} could not be written: {type(error).__name__}: {error}")
    return problems


def write_nifti(out: Path, prediction: Prediction, record: Record, place: Path | SeriesFiles) -> list[str]:
    """Writes the series and its map as NIfTI files, <uid>.nii.gz and <uid>_sac.nii.gz. Files of an earlier run do not
    stay. Returns sentences on what was changed for them, and on those that could not be written."""
    images, found = (out / page_name(record).replace(".html", ending) for ending in (".nii.gz", "_sac.nii.gz"))
    for path in (images, found):
        path.unlink(missing_ok=True)
    if prediction.failure:
        return []
    try:
        sentences = write_series_nifti(place, images)
        if prediction.sac_map is None:
            return [*sentences, f"{found.name} is not written: the models have no maps"]
        write_map_nifti(prediction.sac_map, prediction.series, found)
    except CannotWrite:
        raise
    except Exception as error:  # whatever it is: the page is written all the same
        return [f"{images.name} and its map could not be written: {type(error).__name__}: {error}"]
    return sentences


def read_record(out: Path, series_uid: str, bundle: dict[str, str], files: str) -> Record | None:
    """What these models have said of a series of the same `files` (SeriesFiles.fingerprint) before; None where they
    have not, or could not read it."""
    path = out / page_name({"series_uid": series_uid})
    try:
        record = json.loads(path.with_suffix(".json").read_text())
        same = record["format"] == FORMAT and record["bundle"] == bundle and record["files"] == files
        whole = not record["failure"] and not record["left_out"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same and whole and path.exists() else None


def write_lists(out: Path, records: Sequence[Record]) -> None:
    """Writes index.html and predictions.csv: the most suspicious series first, those without an answer last.

    A UID that is none, and the reasons, stand in the table as `cell` shows them.
    """
    ordered = sorted(records, key=_order)
    write_index(out / "index.html", ordered)
    rows = [
        {"SeriesInstanceUID": cell(record["series_uid"]), **(record["probabilities"] or {})}
        | {"failure": cell(record["failure"])}
        for record in ordered
    ]
    write_csv(pd.DataFrame(rows, columns=["SeriesInstanceUID", *LABELS, "failure"]), out / "predictions.csv")


def _order(record: Record) -> tuple[bool, float]:
    failed = record["probabilities"] is None
    return failed, 0.0 if failed else -record["probabilities"][PRESENT]
