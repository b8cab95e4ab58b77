"""Made-up predictions about series of files, and what DICOM objects about them hold."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pydicom.sr.codedict import codes

from aneurysm.dicom.series import read_series
from aneurysm.inference.peaks import Peak
from aneurysm.inference.prediction import Prediction
from aneurysm.inference.sampled import SampledSeries
from tests.dicom_writer import AXIAL, ramp, write_stack

SHA = "0123456789abcdef" * 4
FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.5"
SHAPE, FIRST = (6, 24, 32), (-12.5, 7.25, 30.0)
PROBABILITIES = np.linspace(0.02, 0.93, 14)


def predict(folder: Path, *places: tuple[str, float, int, float, float]) -> Prediction:
    """What would be said of a folder's series with findings of (location, probability, image, x, y)."""
    read = read_series(folder, select=())
    files = tuple(frame.storage.path for frame in read.frames)
    nothing = np.zeros(0)
    series = SampledSeries(
        read.uid, read.type, nothing, nothing, (), None, read.geometry, read.mapping, files, read.warnings, 0.0, 0.0
    )
    peaks = []
    for location, probability, image, x, y in places:
        uid, frame = read.mapping.images[image]
        patient_mm = tuple(read.geometry.to_patient((image, y, x)).tolist())
        peaks.append(Peak(location, probability, 0, x, y, files[image], uid, frame, x, y, patient_mm))
    return Prediction(folder, PROBABILITIES, {}, uid=read.uid, series=series, peaks=tuple(peaks))


def stack(folder: Path, orientation=AXIAL, spacing=(5.0, 1.0, 1.0), **tags) -> Path:
    tags = {"FrameOfReferenceUID": FRAME_OF_REFERENCE} | tags
    write_stack(folder, ramp(SHAPE), orientation, spacing, FIRST, **tags)
    return folder


def finding_groups(path: Path) -> list:
    """The groups of a report after the series' own."""
    groups = highdicom.sr.srread(path).content.get_image_measurement_groups()
    assert groups[0].tracking_identifier == "Series"
    return groups[1:]


def places_of(group) -> tuple[pydicom.Dataset, pydicom.Dataset | None]:
    """The SCOORD and, where there is one, the SCOORD3D of a finding's probability."""
    (measurement,) = group.get_measurements(name=codes.DCM.Probability)
    places = {item.ValueType: item for item in measurement[0].ContentSequence if "GraphicData" in item}
    return places["SCOORD"], places.get("SCOORD3D")


def image_of(scoord: pydicom.Dataset) -> pydicom.Dataset:
    (image,) = scoord.ContentSequence
    assert image.RelationshipType == "SELECTED FROM"
    return image.ReferencedSOPSequence[0]


def marks_in(path: Path) -> dict[tuple[int, str, int | None], np.ndarray]:
    """(segment, SOP Instance UID, frame number) -> marked pixels, by pydicom alone."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = {}
    for image, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        segment = groups.get("SegmentIdentificationSequence") or dataset.SharedFunctionalGroupsSequence[0].get(
            "SegmentIdentificationSequence"
        )
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        key = (segment[0].ReferencedSegmentNumber, source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber"))
        assert key not in found
        found[key] = image
    return found
