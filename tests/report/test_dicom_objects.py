"""What DICOM structured reports and segmentations have in common, read back by pydicom and by highdicom."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest

from aneurysm.labels import LOCATIONS
from aneurysm.report.dicom_seg import write_seg
from aneurysm.report.dicom_sr import write_sr
from tests.dicom.test_real_files import SHARED, needs_shared
from tests.dicom_predictions import (
    FIRST,
    FRAME_OF_REFERENCE,
    SHA,
    SHAPE,
    finding_groups,
    image_of,
    marks_in,
    places_of,
    predict,
    stack,
)
from tests.dicom_writer import ENHANCED_MR_STORAGE, SERIES_UID, ramp, write_enhanced


@pytest.mark.parametrize("geometry", ["groups", "none"])
def test_frames_of_a_multi_frame_file_are_counted_from_1(tmp_path, geometry):
    path = tmp_path / "in" / "mr.dcm"
    tags = {"FrameOfReferenceUID": FRAME_OF_REFERENCE}
    write_enhanced(path, ramp(SHAPE, np.uint16), spacing=(2.0, 1.0, 1.0), first=FIRST, geometry=geometry, **tags)
    prediction = predict(path.parent, ("Left Anterior Cerebral Artery", 0.5, 2, 12.0, 12.0))
    write_sr(prediction, tmp_path / "sr.dcm", SHA)
    assert write_seg(prediction, tmp_path / "seg.dcm", SHA)
    ((scoord, scoord3d),) = map(places_of, finding_groups(tmp_path / "sr.dcm"))
    image = image_of(scoord)
    expected = (ENHANCED_MR_STORAGE, f"{SERIES_UID}.1", 3)
    assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID, image.ReferencedFrameNumber) == expected
    assert image_of(scoord).ReferencedFrameNumber == 3
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    (source,) = segmentation.SourceImageSequence  # the file once, however many frames are marked
    assert (source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID) == expected[:2]
    if geometry == "groups":
        assert scoord3d.ReferencedFrameOfReferenceUID == segmentation.FrameOfReferenceUID == FRAME_OF_REFERENCE
        counts = {frame: int(marks.sum()) for (_, _, frame), marks in marks_in(tmp_path / "seg.dcm").items()}
        # whole points in circles of squared radius 25, 25 - 4 and 25 - 16; the fifth frame lies 4 mm from the third
        assert counts == {1: 29, 2: 69, 3: 81, 4: 69, 5: 29}
    else:  # millimetres that had to be assumed belong to nobody's frame of reference
        assert scoord3d is None
        assert segmentation.FrameOfReferenceUID != FRAME_OF_REFERENCE


def test_without_a_frame_of_reference_a_place_is_one_in_the_image_alone(tmp_path):
    folder = stack(tmp_path / "in", FrameOfReferenceUID=None)
    prediction = predict(folder, ("Basilar Tip", 0.5, 3, 10.0, 11.0))
    for name in ("a", "b"):
        write_sr(prediction, tmp_path / f"sr_{name}.dcm", SHA)
        assert write_seg(prediction, tmp_path / f"seg_{name}.dcm", SHA)
    ((scoord, scoord3d),) = map(places_of, finding_groups(tmp_path / "sr_a.dcm"))
    assert list(scoord.GraphicData) == [10.5, 11.5] and scoord3d is None
    first, second = (pydicom.dcmread(tmp_path / f"seg_{name}.dcm") for name in "ab")
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID  # one series, one coordinate system
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert (1, f"{SERIES_UID}.4", None) in marks_in(tmp_path / "seg_a.dcm")


def test_findings_below_the_least_probability_are_left_out(tmp_path):
    folder = stack(tmp_path / "in")
    prediction = predict(folder, ("Basilar Tip", 0.099, 3, 10.0, 11.0), ("Anterior Communicating Artery", 0.1, 3, 5, 5))
    write_sr(prediction, tmp_path / "sr.dcm", SHA)
    assert [group.tracking_identifier for group in finding_groups(tmp_path / "sr.dcm")] == [LOCATIONS[6]]
    assert write_seg(prediction, tmp_path / "seg.dcm", SHA)
    assert highdicom.seg.segread(tmp_path / "seg.dcm").number_of_segments == 1
    write_sr(prediction, tmp_path / "none.dcm", SHA, min_probability=0.2)
    assert finding_groups(tmp_path / "none.dcm") == []
    assert not write_seg(prediction, tmp_path / "no_seg.dcm", SHA, min_probability=0.2)
    assert not (tmp_path / "no_seg.dcm").exists()


@pytest.mark.parametrize("kind", ["sr", "seg"])
def test_objects_repeat_the_patient_and_study_and_leave_empty_what_the_files_lack(tmp_path, kind):
    write = {"sr": write_sr, "seg": write_seg}[kind]
    finding = ("Basilar Tip", 0.5, 3, 10.0, 11.0)
    known = {"PatientName": "Müller", "SpecificCharacterSet": "ISO_IR 100", "StudyDate": "20250102", "PatientSex": "F"}
    write(predict(stack(tmp_path / "known", **known), finding), tmp_path / "known.dcm", SHA)
    nonsense = {"PatientSex": "Female", "StudyID": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that it has to write here
        folder = stack(tmp_path / "bare", PatientID=None, StudyDate="removed", **nonsense)
        write(predict(folder, finding), tmp_path / "bare.dcm", SHA)
    dataset, bare = (pydicom.dcmread(tmp_path / f"{name}.dcm") for name in ("known", "bare"))
    assert (dataset.PatientName, dataset.PatientID) == ("Müller", "patient")
    assert (dataset.StudyDate, dataset.PatientSex) == ("20250102", "F")
    study_2 = "AccessionNumber StudyID StudyDate StudyTime ReferringPhysicianName".split()
    for name in ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", *study_2]:
        assert not bare[name].value, name  # there, and empty
    for one in (dataset, bare):
        assert one.StudyInstanceUID == "1.2.826.0.1.3680043.8.498.6"
        assert one.SeriesInstanceUID != SERIES_UID
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert one.Modality == kind.upper() and one.SoftwareVersions == SHA
        assert "not a medical device" in one.SeriesDescription


def test_report_and_segmentation_track_a_finding_by_the_same_uid(tmp_path):
    prediction = predict(
        stack(tmp_path / "in"), ("Basilar Tip", 0.3, 3, 15.0, 12.0), ("Anterior Communicating Artery", 0.6, 3, 17.0, 12)
    )
    write_sr(prediction, tmp_path / "sr.dcm", SHA)
    write_seg(prediction, tmp_path / "seg.dcm", SHA)
    in_report = [group.tracking_uid for group in finding_groups(tmp_path / "sr.dcm")]
    in_segments = [segment.TrackingUID for segment in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence]
    assert in_report == in_segments and len(set(in_report)) == 2


@pytest.mark.parametrize("write", [write_sr, write_seg])
def test_what_cannot_be_written_is_a_clear_error(tmp_path, monkeypatch, write):
    finding = ("Basilar Tip", 0.5, 3, 10.0, 11.0)
    without_study = predict(stack(tmp_path / "in", StudyInstanceUID=None), finding)
    with pytest.raises(ValueError, match=r"\.dcm: expected StudyInstanceUID.*found None"):
        write(without_study, tmp_path / "out.dcm", SHA)
    with pytest.raises(ValueError, match="there is no answer to report: out of memory"):
        write(replace(without_study, failure="out of memory"), tmp_path / "out.dcm", SHA)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r"pip install -e \.\[dicom\]"):
        write(without_study, tmp_path / "out.dcm", SHA)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("write", [write_sr, write_seg])
def test_files_without_a_series_uid_are_of_the_series_that_their_folder_names(tmp_path, write):
    finding = ("Basilar Tip", 0.5, 3, 10.0, 11.0)
    write(predict(stack(tmp_path / "1.2.99", SeriesInstanceUID=None), finding), tmp_path / "out.dcm", SHA)
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    if write is write_sr:
        (study,) = dataset.CurrentRequestedProcedureEvidenceSequence
        assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.99"
    else:
        assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.99"
    with pytest.raises(ValueError, match="SeriesInstanceUID, found .* and None"):
        write(predict(stack(tmp_path / "no uid", SeriesInstanceUID=None), finding), tmp_path / "out.dcm", SHA)


@needs_shared
@pytest.mark.parametrize(("name", "image"), [("ct_tilt_gap", 14), ("enhanced_mr", 48)])
def test_real_files_have_reports_and_segmentations(tmp_path, name, image):
    prediction = predict(SHARED / name, ("Basilar Tip", 0.5, image, 60.0, 70.0))
    write_sr(prediction, tmp_path / "sr.dcm", SHA)
    assert write_seg(prediction, tmp_path / "seg.dcm", SHA)
    (peak,) = prediction.peaks
    header = pydicom.dcmread(peak.file, stop_before_pixels=True)
    ((scoord, scoord3d),) = map(places_of, finding_groups(tmp_path / "sr.dcm"))
    assert image_of(scoord).ReferencedSOPInstanceUID == header.SOPInstanceUID
    assert image_of(scoord).get("ReferencedFrameNumber", 1) == peak.frame + 1
    assert scoord3d.ReferencedFrameOfReferenceUID == header.FrameOfReferenceUID
    place = header
    if "PerFrameFunctionalGroupsSequence" in header:
        groups = header.PerFrameFunctionalGroupsSequence[peak.frame]
        place = pydicom.Dataset()
        for group in (groups.PlanePositionSequence, groups.PlaneOrientationSequence, groups.PixelMeasuresSequence):
            place.update(group[0])
    to_mm = highdicom.spatial.PixelToReferenceTransformer(
        place.ImagePositionPatient, place.ImageOrientationPatient, place.PixelSpacing
    )
    np.testing.assert_allclose(scoord3d.GraphicData, to_mm(np.array([[60, 70]]))[0], atol=0.01)
    marks = marks_in(tmp_path / "seg.dcm")
    rows, columns = np.nonzero(marks[1, header.SOPInstanceUID, image_of(scoord).get("ReferencedFrameNumber")])
    area_mm2 = len(rows) * place.PixelSpacing[0] * place.PixelSpacing[1]
    assert area_mm2 == pytest.approx(np.pi * 25, rel=0.1)
    assert (rows.mean(), columns.mean()) == pytest.approx((70, 60), abs=0.6)
