"""What DICOM objects take from a series: its findings, and its images, patient and study from the headers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import UID, generate_uid
from pydicom.valuerep import DA, TM

from aneurysm.dicom.frames import Frame, read_frames
from aneurysm.dicom.geometry import Geometry
from aneurysm.dicom.header import read_header
from aneurysm.inference.peaks import Peak
from aneurysm.inference.prediction import Prediction
from aneurysm.inference.sampled import SampledSeries
from aneurysm.package import without_extra
from aneurysm.report.dicom_codes import MANUFACTURER, MODEL_NAME

CHARACTER_SET = "ISO_IR 192"  # UTF-8: pydicom has decoded the source's character set
SAME_MM = 0.01  # positions that differ by less are equal


@dataclass(frozen=True)
class SourceImage:
    """One image as other objects refer to it; `frame_number` counts from 1, and is None for a single-frame file."""

    sop_class: str
    sop_uid: str
    frame_number: int | None


@dataclass(frozen=True)
class Source:
    """What the headers of a series contain.

    images              each image in slice order
    common              what objects of the same study repeat: patient and study, the UID of the series, the modality
    frame_of_reference  UID of the coordinate system of the series' patient positions; None if the files name none,
                        or if position, orientation or pixel spacing had to be assumed
    """

    images: tuple[SourceImage, ...]
    common: pydicom.Dataset
    frame_of_reference: str | None


def need_highdicom() -> None:
    """Raises ValueError saying how to install highdicom, if it is missing."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise without_extra("DICOM structured reports and segmentations", "dicom", error) from error


@contextmanager
def names_as_they_are() -> Iterator[None]:
    """Silences highdicom's warning about patient names without a caret: they are copied from the source."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The string .* person name")
        yield


def new_object(bundle_sha256: str) -> dict[str, Any]:
    """Arguments of highdicom's constructors for an object in a new series: UIDs, and the software that made it."""
    return {
        "series_instance_uid": generate_uid(),
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": bundle_sha256,
        "specific_character_set": CHARACTER_SET,
    }


def findings(prediction: Prediction, min_probability: float) -> list[Peak]:
    """The peaks of at least `min_probability`, strongest first.

    Raises ValueError if the models did not run, so that prevalences are never reported as findings.
    """
    if prediction.series is None or prediction.failure:
        raise ValueError(f"{prediction.folder}: there is no answer to report: {prediction.failure}")
    kept = [peak for peak in prediction.peaks if peak.probability >= min_probability]
    return sorted(kept, key=lambda peak: -peak.probability)


def read_source(series: SampledSeries) -> Source:
    """The source of a series. Raises ValueError naming a file that lacks one of its UIDs."""
    headers = {path: read_header(path) for path in dict.fromkeys(series.files)}
    frames = Counter(uid for uid, *_ in (*series.mapping.images, *series.mapping.twins))
    images = []
    for path, (sop_uid, frame) in zip(series.files, series.mapping.images, strict=True):
        header = headers[path]
        sop_class = header.values.get("SOPClassUID")
        if not sop_class or not sop_uid:
            raise ValueError(
                f"{path}: expected SOPClassUID and SOPInstanceUID, found {sop_class} and {sop_uid or None}"
            )
        several = max(header.number("NumberOfFrames", 1), frames[sop_uid], frame + 1) > 1
        images.append(SourceImage(sop_class, sop_uid, frame + 1 if several else None))
    common, frame_of_reference = _common(series.files[0], series.uid)
    # If all headers give the same position, the geometry agrees with the first image but not with the last.
    last = read_frames(headers[series.files[-1]])[series.mapping.images[-1][1]]
    stated = frame_of_reference if _is_stated(last, series.geometry) else None
    return Source(tuple(images), common, stated or None)


def made_up_frame_of_reference(series_uid: str) -> str:
    """UID of a new coordinate system for a series, always the same."""
    return generate_uid(entropy_srcs=[series_uid, "FrameOfReferenceUID"])


def _common(path: Path, series_uid: str) -> tuple[pydicom.Dataset, str]:
    """Source.common from one image's header, and its FrameOfReferenceUID ("" if there is none).

    Attributes that are required but may be empty (type 2) are empty if the file lacks them or holds an invalid value.
    A file without a SeriesInstanceUID, as in the competition, gets `series_uid`.
    """
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*_CHECKS, *_UIDS])
    common = pydicom.Dataset()
    for name, check in _CHECKS.items():
        setattr(common, name, _checked(header, name, check))
    study, series, frame_of_reference = (_checked(header, name, str) for name in _UIDS)
    series = series or (series_uid if UID(series_uid).is_valid else "")
    if not study or not series:
        raise ValueError(
            f"{path}: expected StudyInstanceUID and SeriesInstanceUID, found {study or None} and {series or None}"
        )
    common.StudyInstanceUID, common.SeriesInstanceUID = study, series
    return common, frame_of_reference


def _is_stated(last: Frame, geometry: Geometry) -> bool:
    if last.position is None or last.orientation is None or last.spacing is None:
        return False
    return (
        np.allclose(last.position, geometry.positions[-1], rtol=0, atol=SAME_MM)
        and np.allclose(last.orientation, geometry.orientation, rtol=0, atol=0.02)
        and np.allclose(last.spacing, geometry.spacing[1:], rtol=0.02)
    )


def _sex(value: str) -> str:
    return value if value in ("M", "F", "O") else ""


_CHECKS: dict[str, Callable] = {
    "PatientName": str,
    "PatientID": str,
    "PatientBirthDate": DA,
    "PatientSex": _sex,
    "StudyDate": DA,
    "StudyTime": TM,
    "AccessionNumber": str,
    "StudyID": str,
    "ReferringPhysicianName": str,
    "Modality": str,
}
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def _checked(header: pydicom.Dataset, name: str, check: Callable) -> str:
    """The text of an element, or "" if it is absent or `check` rejects it."""
    try:
        value = header.get(name)
        return str(check(str(value))) if value else ""
    except Exception:  # pydicom raises a different error for each kind of damage
        return ""
