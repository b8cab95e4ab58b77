"""`write_sr`: the prediction for one series as a DICOM structured report, for viewers and archives.

Comprehensive 3D SR with the template Measurement Report (DICOM PS3.16 TID 1500) and these measurement groups (TID
1501): first the series with its 14 probabilities, then each finding with its probability, its place in the image
(SCOORD) and, if the file names its frame of reference, in the patient (SCOORD3D).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from aneurysm.inference.peaks import Peak
from aneurysm.inference.prediction import Prediction
from aneurysm.inference.sampled import SampledSeries
from aneurysm.labels import LABELS
from aneurysm.paths import atomic_write
from aneurysm.report import dicom_codes
from aneurysm.report.dicom_source import (
    Source,
    findings,
    names_as_they_are,
    need_highdicom,
    new_object,
    read_source,
)

if TYPE_CHECKING:
    from highdicom import sr

SERIES_NUMBER = 9001
SERIES_DESCRIPTION = f"Aneurysm findings: {dicom_codes.NOTICE}"


def write_sr(prediction: Prediction, out: Path, bundle_sha256: str, min_probability: float = 0.1) -> None:
    """Writes the report to `out`, with all 14 probabilities and the findings of at least `min_probability`.

    `bundle_sha256` identifies the models. Raises ValueError if highdicom is missing, if the models did not run, or
    naming a file that lacks one of the UIDs that the report refers to.
    """
    need_highdicom()
    from highdicom import sr
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    peaks = findings(prediction, min_probability)
    source = read_source(prediction.series)
    algorithm = sr.AlgorithmIdentification(dicom_codes.MODEL_NAME, bundle_sha256, parameters=[dicom_codes.NOTICE])
    groups = [_series_group(prediction, source, algorithm)]
    groups += [_finding_group(peak, prediction.series, source, algorithm) for peak in peaks]
    with names_as_they_are():
        document = sr.Comprehensive3DSR(
            evidence=_evidence(source),
            content=sr.MeasurementReport(_observed_by(bundle_sha256), codes.SCT.ImagingProcedure, groups),
            series_number=SERIES_NUMBER,
            series_description=SERIES_DESCRIPTION,
            coding_schemes=[CodingSchemeIdentificationItem(dicom_codes.SCHEME, dicom_codes.SCHEME_NAME)],
            **new_object(bundle_sha256),
        )
    with atomic_write(out) as beside:
        document.save_as(beside, enforce_file_format=True)


def _series_group(
    prediction: Prediction, source: Source, algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    """The 14 probabilities in the order of LABELS, each with its site, tracked by its label."""
    from highdicom import sr

    series_uid = source.common.SeriesInstanceUID
    measurements = [
        sr.Measurement(
            dicom_codes.PROBABILITY,
            float(probability),
            codes.UCUM.NoUnits,
            tracking_identifier=sr.TrackingIdentifier(dicom_codes.tracking_uid(series_uid, f"Series: {label}"), label),
            finding_sites=[_finding_site(label)],
        )
        for label, probability in zip(LABELS, prediction.probabilities, strict=True)
    ]
    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(dicom_codes.tracking_uid(series_uid, "Series"), "Series"),
        finding_type=dicom_codes.INTRACRANIAL_ANEURYSM,
        algorithm_id=algorithm,
        measurements=measurements,
    )


def _finding_group(
    peak: Peak, series: SampledSeries, source: Source, algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    from highdicom import sr

    places = _places(peak, series, source)
    return sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(dicom_codes.tracking_uid(source.common.SeriesInstanceUID, peak.location), peak.location),
        finding_type=dicom_codes.INTRACRANIAL_ANEURYSM,
        finding_sites=[_finding_site(peak.location)],
        algorithm_id=algorithm,
        measurements=[
            sr.Measurement(dicom_codes.PROBABILITY, peak.probability, codes.UCUM.NoUnits, referenced_coordinates=places)
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(dicom_codes.LOCATION, dicom_codes.location_code(peak.location))
        ],
    )


def _places(
    peak: Peak, series: SampledSeries, source: Source
) -> list[sr.CoordinatesForMeasurement | sr.CoordinatesForMeasurement3D]:
    """Where a finding is: in its image, and in the patient if the source has a frame of reference."""
    from highdicom import sr

    image = source.images[series.mapping.source_index(peak.sop_uid, peak.frame)]
    frames = [image.frame_number] if image.frame_number else None
    # Pixel coordinates begin at the corner of the first pixel, not at its centre (DICOM PS3.3 table C.18.6-1).
    pixel = np.clip([[peak.x + 0.5, peak.y + 0.5]], 0, series.geometry.shape[:0:-1])
    selected_from = sr.SourceImageForRegion(image.sop_class, image.sop_uid, frames)
    places = [sr.CoordinatesForMeasurement("POINT", pixel, selected_from)]
    if source.frame_of_reference:
        patient_mm = np.array([peak.patient_mm])
        places.append(sr.CoordinatesForMeasurement3D("POINT", patient_mm, source.frame_of_reference))
    return places


def _finding_site(label: str) -> sr.FindingSite:
    from highdicom import sr

    site = dicom_codes.site_of(label)
    return sr.FindingSite(site.artery, site.side, site.part)


def _observed_by(bundle_sha256: str) -> sr.ObservationContext:
    """The observer is a device: these models."""
    from highdicom import sr

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[dicom_codes.MODEL_NAME, bundle_sha256]),
        name=dicom_codes.MODEL_NAME,
        manufacturer_name=dicom_codes.MANUFACTURER,
        model_name=dicom_codes.MODEL_NAME,
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))


def _evidence(source: Source) -> list[pydicom.Dataset]:
    """All images of the series, each file once; the report takes patient and study from the first."""
    evidence = []
    for image in {image.sop_uid: image for image in source.images}.values():
        dataset = pydicom.Dataset()
        dataset.update(source.common)
        dataset.SOPClassUID, dataset.SOPInstanceUID = image.sop_class, image.sop_uid
        evidence.append(dataset)
    return evidence
