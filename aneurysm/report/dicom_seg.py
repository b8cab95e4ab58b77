"""`write_seg`: the findings of one series as a DICOM segmentation, which viewers overlay on its images.

One segment per finding: a ball around its position in the patient, on every image that the ball cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage

from aneurysm.dicom.geometry import Geometry
from aneurysm.inference.peaks import Peak
from aneurysm.inference.prediction import Prediction
from aneurysm.paths import atomic_write
from aneurysm.report import dicom_codes
from aneurysm.report.dicom_source import (
    Source,
    SourceImage,
    findings,
    made_up_frame_of_reference,
    names_as_they_are,
    need_highdicom,
    new_object,
    read_source,
)

if TYPE_CHECKING:
    from highdicom import seg

SERIES_NUMBER = 9002
SERIES_DESCRIPTION = f"Aneurysm places: {dicom_codes.NOTICE}"
ON_THE_SURFACE_MM = 1e-4  # pixel centres on the ball's surface count as inside, despite rounding


def write_seg(
    prediction: Prediction, out: Path, bundle_sha256: str, min_probability: float = 0.1, radius_mm: float = 5.0
) -> bool:
    """Writes the segmentation to `out`; returns False and writes nothing if no finding reaches `min_probability`.

    `bundle_sha256` identifies the models. If the files name no frame of reference, or their geometry had to be assumed,
    the segmentation gets a new one and is placed only by the images that it refers to. Raises ValueError if highdicom
    is missing, if the models did not run, or naming a file that lacks one of the UIDs referred to.
    """
    need_highdicom()
    from highdicom import seg

    peaks, series = findings(prediction, min_probability), prediction.series
    if not peaks:
        return False
    touched, marks = _marks(series.geometry, peaks, radius_mm)
    source = read_source(series)
    series_uid = source.common.SeriesInstanceUID
    with names_as_they_are():
        segmentation = seg.Segmentation(
            source_images=[_plane(series.geometry, image, source) for image in touched],
            pixel_array=marks,
            segmentation_type=seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _describe(number, peak, bundle_sha256, series_uid) for number, peak in enumerate(peaks, 1)
            ],
            series_number=SERIES_NUMBER,
            series_description=SERIES_DESCRIPTION,
            device_serial_number="1",  # must not be empty; software has none
            content_label="ANEURYSM",
            content_description=f"Balls of {radius_mm:g} mm: {dicom_codes.NOTICE}",
            **new_object(bundle_sha256),
        )
    _refer(segmentation, {_name(image): source.images[image] for image in touched})
    with atomic_write(out) as beside:
        segmentation.save_as(beside, enforce_file_format=True)
    return True


def ball(geometry: Geometry, centre_mm: Sequence[float], radius_mm: float) -> dict[int, np.ndarray]:
    """For each source image that the ball cuts, (rows, columns) bool: the pixels whose centres lie inside.

    The radius is at least the pixel spacing, so that a finding always marks its image.
    """
    limit_mm2 = (max(radius_mm, *geometry.spacing[1:]) + ON_THE_SURFACE_MM) ** 2
    offset = geometry.positions - np.asarray(centre_mm, float)  # from the centre to the first pixel of each image
    height = offset @ geometry.normal
    found = {}
    for image in np.flatnonzero(height**2 <= limit_mm2).tolist():
        y = offset[image] @ geometry.orientation[3:] + np.arange(geometry.shape[1]) * geometry.spacing[1]
        x = offset[image] @ geometry.orientation[:3] + np.arange(geometry.shape[2]) * geometry.spacing[2]
        inside = y[:, None] ** 2 + x**2 + height[image] ** 2 <= limit_mm2
        if inside.any():
            found[image] = inside
    return found


def _marks(geometry: Geometry, peaks: Sequence[Peak], radius_mm: float) -> tuple[list[int], np.ndarray]:
    """The images that any ball cuts, and (images, rows, columns, findings) uint8: 1 inside the balls."""
    balls = [ball(geometry, peak.patient_mm, radius_mm) for peak in peaks]
    touched = sorted(set().union(*balls))
    marks = np.zeros((len(peaks), len(touched), *geometry.shape[1:]), np.uint8)
    for own_marks, own_ball in zip(marks, balls, strict=True):
        for image, inside in own_ball.items():
            own_marks[touched.index(image)] = inside
    return touched, np.moveaxis(marks, 0, -1)


def _describe(number: int, peak: Peak, bundle_sha256: str, series_uid: str) -> seg.SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence, seg
    from highdicom.sr import CodedConcept

    site = dicom_codes.site_of(peak.location)
    description = seg.SegmentDescription(
        number,
        f"{number} {peak.location}",
        dicom_codes.ABNORMAL_STRUCTURE,
        dicom_codes.ANEURYSM_MORPHOLOGY,
        seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        AlgorithmIdentificationSequence(dicom_codes.MODEL_NAME, codes.DCM.ArtificialIntelligence, bundle_sha256),
        tracking_uid=dicom_codes.tracking_uid(series_uid, peak.location),
        tracking_id=peak.location,
        anatomic_regions=[site.artery],
    )
    description.SegmentDescription = f"probability {peak.probability:.3f}; {dicom_codes.NOTICE}"
    modifiers = [CodedConcept.from_code(code) for code in (site.side, site.part) if code is not None]
    if modifiers:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = modifiers
    return description


def _plane(geometry: Geometry, image: int, source: Source) -> pydicom.Dataset:
    """A source image as highdicom needs it: a single-frame dataset with the position from the geometry.

    Frames of multi-frame files are converted, too, so that there is one code path; `_refer` sets the real references.
    """
    plane = pydicom.Dataset()
    plane.update(source.common)
    own_frame = made_up_frame_of_reference(source.common.SeriesInstanceUID)
    plane.FrameOfReferenceUID = source.frame_of_reference or own_frame
    plane.SOPClassUID, plane.SOPInstanceUID = CTImageStorage, _name(image)
    plane.Rows, plane.Columns = geometry.shape[1:]
    plane.ImagePositionPatient = _decimal(geometry.positions[image])
    plane.ImageOrientationPatient = _decimal(geometry.orientation)
    plane.PixelSpacing = _decimal(geometry.spacing[1:])
    plane.SliceThickness = _decimal(geometry.spacing[:1])[0]
    return plane


def _decimal(values: Sequence[float]) -> list[str]:
    return [pydicom.valuerep.format_number_as_ds(float(value)) for value in values]


def _name(image: int) -> str:
    return f"1.{image + 1}"


def _refer(segmentation: seg.Segmentation, images: dict[str, SourceImage]) -> None:
    """Replaces the placeholder UIDs by references to the source images."""
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        for item in groups.DerivationImageSequence[0].SourceImageSequence:
            image = images.get(item.ReferencedSOPInstanceUID)  # None if the item, shared by frames, is done already
            if image is not None:
                _name_real(item, image)
    references = []
    for image in {image.sop_uid: image for image in images.values()}.values():
        references.append(pydicom.Dataset())
        references[-1].ReferencedSOPClassUID, references[-1].ReferencedSOPInstanceUID = image.sop_class, image.sop_uid
    segmentation.SourceImageSequence = references
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references


def _name_real(item: pydicom.Dataset, image: SourceImage) -> None:
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.sop_class, image.sop_uid
    if image.frame_number is not None:
        item.ReferencedFrameNumber = image.frame_number
