"""Findings as DICOM structured reports, read back by pydicom and by highdicom."""

from __future__ import annotations

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.report.dicom_codes import site_of
from aneurysm.report.dicom_sr import write_sr
from tests.dicom_predictions import (
    FIRST,
    FRAME_OF_REFERENCE,
    PROBABILITIES,
    SHA,
    SHAPE,
    finding_groups,
    image_of,
    places_of,
    predict,
    stack,
)
from tests.dicom_writer import CT_STORAGE, SAGITTAL, SERIES_UID, voxel_positions

TILT = np.radians(20)
OBLIQUE = (1, 0, 0, 0, np.cos(TILT), np.sin(TILT))


@pytest.mark.parametrize(("orientation", "gap"), [(OBLIQUE, 5.0), (SAGITTAL, 1.5)])
def test_a_finding_is_reported_with_its_place_in_the_image_and_in_the_patient(tmp_path, orientation, gap):
    spacing = (gap, 0.75, 0.5)
    folder = stack(tmp_path / "in", orientation, spacing)
    prediction = predict(folder, ("Right Middle Cerebral Artery", 0.25, 4, 10.0, 20.0), ("Basilar Tip", 0.75, 1, 3, 2))
    write_sr(prediction, tmp_path / "sr.dcm", SHA)
    tip, middle = finding_groups(tmp_path / "sr.dcm")  # strongest first
    assert [group.tracking_identifier for group in (tip, middle)] == ["Basilar Tip", "Right Middle Cerebral Artery"]
    assert [group.get_measurements()[0].value for group in (tip, middle)] == [0.75, 0.25]
    assert middle.get_measurements()[0].unit.value == "1"
    assert middle.finding_type == pydicom.sr.coding.Code("128609009", "SCT", "Intracranial aneurysm")
    (site,) = middle.finding_sites
    assert (site.value.value, site.laterality.meaning) == ("17232002", "Right")
    (output,) = middle.get_qualitative_evaluations()
    assert (output.value.value, output.value.meaning) == ("LOCATION-6", "Right Middle Cerebral Artery")
    scoord, scoord3d = places_of(middle)
    # the centre of the first pixel is half a pixel from its corner, where pixel coordinates begin
    assert (scoord.GraphicType, list(scoord.GraphicData)) == ("POINT", [10.5, 20.5])
    image = image_of(scoord)
    assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (CT_STORAGE, f"{SERIES_UID}.5")
    assert "ReferencedFrameNumber" not in image
    assert (scoord3d.GraphicType, scoord3d.ReferencedFrameOfReferenceUID) == ("POINT", FRAME_OF_REFERENCE)
    expected_mm = voxel_positions(SHAPE, FIRST, orientation, spacing)[4, 20, 10]
    np.testing.assert_allclose(scoord3d.GraphicData, expected_mm, atol=1e-4)


def test_the_series_has_its_14_probabilities_each_with_its_site(tmp_path):
    write_sr(predict(stack(tmp_path / "in")), tmp_path / "sr.dcm", SHA)
    (series,) = highdicom.sr.srread(tmp_path / "sr.dcm").content.get_image_measurement_groups()
    measurements = series.get_measurements(name=codes.DCM.Probability)
    np.testing.assert_allclose([m.value for m in measurements], PROBABILITIES)
    texts = [item.TextValue for m in measurements for item in m[0].ContentSequence if item.ValueType == "TEXT"]
    assert texts == list(LABELS)
    left_supraclinoid = measurements[2].finding_sites[0]
    assert left_supraclinoid.value.meaning == "Internal carotid artery"
    assert left_supraclinoid.laterality.meaning == "Left"
    assert left_supraclinoid.topographical_modifier.meaning == "Supraclinoid"
    assert measurements[13].finding_sites[0].value.meaning == "Intracranial"


def test_sites_are_the_snomed_codes_of_the_arteries():
    # artery and side by SNOMED CT (DICOM PS3.16 CID 3827 and 244); by the project's own scheme where it has none
    left, right, carotid = "7771000", "24028007", "86117002"
    middle, anterior, posterior_communicating = "17232002", "60176003", "43119007"
    expected = [
        (carotid, left), (carotid, right), (carotid, left), (carotid, right), (middle, left), (middle, right),
        ("8012006", None), (anterior, left), (anterior, right), (posterior_communicating, left),
        (posterior_communicating, right), ("59011009", None), ("OTHER-POSTERIOR", None),
    ]  # fmt: skip
    sites = [site_of(location) for location in LOCATIONS]
    assert [(site.artery.value, site.side and site.side.value) for site in sites] == expected
    parts = [site.part and site.part.meaning for site in sites]
    assert parts == ["Infraclinoid"] * 2 + ["Supraclinoid"] * 2 + [None] * 7 + ["Tip", None]


def test_images_that_all_lie_at_one_position_have_no_place_in_the_patient(tmp_path):
    folder = stack(tmp_path / "in", ImagePositionPatient=[0, 0, 0])
    write_sr(predict(folder, ("Basilar Tip", 0.5, 3, 10.0, 11.0)), tmp_path / "sr.dcm", SHA)
    ((_, scoord3d),) = map(places_of, finding_groups(tmp_path / "sr.dcm"))
    assert scoord3d is None


def test_a_report_is_partial_and_unverified_and_names_all_images_as_evidence(tmp_path):
    folder = stack(tmp_path / "in")  # the files' meta headers name another SOP instance: the data sets' own count
    write_sr(predict(folder, ("Basilar Tip", 0.5, 3, 10.0, 11.0)), tmp_path / "sr.dcm", SHA)
    dataset = highdicom.sr.srread(tmp_path / "sr.dcm")
    assert dataset.SOPClassUID == pydicom.uid.Comprehensive3DSRStorage
    flags = (dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag)
    assert flags == ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
    assert [uid for *_, uid, _ in dataset.get_evidence()] == [f"{SERIES_UID}.{i}" for i in range(1, 7)]
    assert "PixelData" not in dataset
    assert dataset.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99ANEURYSM"
    (observer,) = dataset.content.get_observer_contexts()
    assert observer.observer_type == codes.DCM.Device
    assert SHA in [item.get("TextValue") for item in finding_groups(tmp_path / "sr.dcm")[0][0].ContentSequence]
