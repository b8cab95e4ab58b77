"""The report of one run: a page, a JSON file and DICOM objects for each series, an index, and predictions.csv."""

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
    """Writes <uid>.html, then <uid>.json; returns the path of the page. Adds `thumbnail` to the record."""
    record["thumbnail"] = thumbnail(pictures)
    page = out / page_name(record)
    write_page(page, record, pictures)
    with atomic_write(page.with_suffix(".json")) as beside:
        beside.write_text(json.dumps(record, indent=1, allow_nan=False))
    return page


def write_objects(
    out: Path, prediction: Prediction, record: Record, kinds: Sequence[str], min_probability: float
) -> list[str]:
    """Writes the DICOM objects <uid>_sr.dcm and <uid>_seg.dcm that are in `kinds` (sr, seg).

    Leaves out findings below `min_probability`. Deletes such objects of an earlier run first. Returns sentences on
    those that could not be written. Raises ValueError if highdicom is missing.
    """
    if not kinds:
        return []
    need_highdicom()
    problems = []
    for kind in kinds:
        path = out / page_name(record).replace(".html", f"_{kind}.dcm")
        path.unlink(missing_ok=True)  # of an earlier run, whose findings may differ
        if prediction.failure:
            continue
        write = {"sr": write_sr, "seg": write_seg}[kind]
        try:
            write(prediction, path, record["bundle"]["sha256"], min_probability)
        except ValueError as error:
            problems.append(f"{path.name} could not be written: {error}")
        except Exception as error:  # highdicom and pydicom raise many kinds: the page is still written
            problems.append(f"{path.name} could not be written: {type(error).__name__}: {error}")
    return problems


def write_nifti(out: Path, prediction: Prediction, record: Record, place: Path | SeriesFiles) -> list[str]:
    """Writes the series and its map as NIfTI files, <uid>.nii.gz and <uid>_sac.nii.gz; deletes those of an earlier run
    first. Returns sentences on interpolation, and on files that could not be written."""
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
    except Exception as error:  # the page is still written
        return [f"{images.name} and its map could not be written: {type(error).__name__}: {error}"]
    return sentences


def read_record(out: Path, series_uid: str, bundle: dict[str, str], files: str) -> Record | None:
    """The record of an earlier run with the same bundle and `files` (SeriesFiles.fingerprint); None if there is none,
    or if it failed or left anything out."""
    path = out / page_name({"series_uid": series_uid})
    try:
        record = json.loads(path.with_suffix(".json").read_text())
        same = record["format"] == FORMAT and record["bundle"] == bundle and record["files"] == files
        whole = not record["failure"] and not record["left_out"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same and whole and path.exists() else None


def write_lists(out: Path, records: Sequence[Record]) -> None:
    """Writes index.html and predictions.csv: the most suspicious series first, failed ones last.

    UIDs and failure reasons are escaped by `cell` in the table.
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
