"""Predicts many series, and writes the report of each before the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aneurysm.dicom.find import SeriesFiles
from aneurysm.inference.predict import Predictor
from aneurysm.inference.record import record_of
from aneurysm.report.folder import Record, read_record, write_nifti, write_objects, write_series


@dataclass(frozen=True)
class Extras:
    """Files beside the page and the JSON file of a series: DICOM objects (sr, seg) with findings of at least
    `min_probability`, and NIfTI files."""

    objects: tuple[str, ...] = ()
    min_probability: float = 0.1
    nifti: bool = False


def write_reports(
    found: Sequence[SeriesFiles], predictor: Predictor, identity: dict[str, str], out: Path, extras: Extras,
    workers: int, budget_s: float, resume: bool,
) -> Iterator[Record]:  # fmt: skip
    """Yields the record of each series once its page is written; `identity` from bundle_identity, `budget_s` for each.

    With `resume`, records of an earlier report by the same bundle on the same files are reused, and come first.
    """
    files = {series.uid: series.fingerprint() for series in found}
    before = {uid: read_record(out, uid, identity, own) if resume else None for uid, own in files.items()}
    yield from filter(None, before.values())
    new = [series for series in found if before[series.uid] is None]
    for series, prediction in zip(new, predictor.predict_all(new, workers, budget_s=budget_s), strict=True):
        record = record_of(prediction, predictor.prevalence, identity, files[prediction.uid])
        record["warnings"] += write_objects(out, prediction, record, extras.objects, extras.min_probability)
        record["warnings"] += write_nifti(out, prediction, record, series) if extras.nifti else []
        write_series(out, record, prediction.pictures)
        yield record
