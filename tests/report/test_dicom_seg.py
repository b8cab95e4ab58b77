"""Findings as DICOM segmentations, read back by pydicom and by highdicom."""

from __future__ import annotations

import highdicom
import numpy as np
from pydicom.uid import RLELossless

from aneurysm.report.dicom_seg import write_seg
from tests.dicom_predictions import (
    FIRST,
    FRAME_OF_REFERENCE,
    SHA,
    SHAPE,
    marks_in,
    predict,
    stack,
)
from tests.dicom_writer import SERIES_UID, ramp, write_stack


def test_a_segment_is_the_ball_around_a_finding_on_the_images_that_it_cuts(tmp_path):
    folder = stack(tmp_path / "in", syntax=RLELossless)
    prediction = predict(folder, ("Left Posterior Communicating Artery", 0.375, 3, 15.0, 12.0))
    assert write_seg(prediction, tmp_path / "seg.dcm", SHA)
    marks = {uid: image for (_, uid, _), image in marks_in(tmp_path / "seg.dcm").items()}
    # 81 whole points in a circle of 5; the neighbours, 5 mm away, are touched at one point
    assert {uid: int(image.sum()) for uid, image in marks.items()} == {
        f"{SERIES_UID}.3": 1,
        f"{SERIES_UID}.4": 81,
        f"{SERIES_UID}.5": 1,
    }
    own = marks[f"{SERIES_UID}.4"]
    assert own[12, 10:21].all() and own[7:18, 15].all() and not own[12, 9] and not own[6, 15] and not own[8, 11]
    assert marks[f"{SERIES_UID}.3"][12, 15] == 1
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    (segment,) = segmentation.SegmentSequence
    assert segment.SegmentLabel == "1 Left Posterior Communicating Artery"
    assert "probability 0.375" in segment.SegmentDescription
    (region,) = segment.AnatomicRegionSequence
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeMeaning) == ("43119007", "Left")
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == SHA
    assert segmentation.FrameOfReferenceUID == FRAME_OF_REFERENCE
    pixels = segmentation.get_pixels_by_source_instance([f"{SERIES_UID}.4"], segment_numbers=[1])
    np.testing.assert_array_equal(pixels[0, :, :, 0], own)
    positions = [g.PlanePositionSequence[0].ImagePositionPatient for g in segmentation.PerFrameFunctionalGroupsSequence]
    np.testing.assert_allclose(
        sorted(map(list, positions)), [[*FIRST[:2], FIRST[2] + 5 * number] for number in (2, 3, 4)]
    )
    references = segmentation.ReferencedSeriesSequence[0]
    assert references.SeriesInstanceUID == SERIES_UID
    uids = [item.ReferencedSOPInstanceUID for item in references.ReferencedInstanceSequence]
    assert uids == [f"{SERIES_UID}.{number}" for number in (3, 4, 5)]


def test_balls_are_round_in_stacks_that_are_tilted_and_unevenly_spaced(tmp_path):
    z = [0, 3, 7, 13, 20, 30]  # each image shifted backward by 2 mm against the one below
    folder = tmp_path / "in"
    write_stack(folder, ramp(SHAPE), each=lambda i: {"ImagePositionPatient": [0, 2 * i, z[i]]})
    assert write_seg(predict(folder, ("Basilar Tip", 0.5, 1, 15.0, 12.0)), tmp_path / "seg.dcm", SHA)
    marks = {uid: image for (_, uid, _), image in marks_in(tmp_path / "seg.dcm").items()}
    # 3 mm below and 4 mm above: circles of squared radius 16 and 9, around rows 2 further back and in front
    assert {uid: int(image.sum()) for uid, image in marks.items()} == {
        f"{SERIES_UID}.1": 49,
        f"{SERIES_UID}.2": 81,
        f"{SERIES_UID}.3": 29,
    }
    for number, row in ((1, 14), (2, 12), (3, 10)):
        rows, columns = np.nonzero(marks[f"{SERIES_UID}.{number}"])
        assert (rows.mean(), columns.mean()) == (row, 15)


def test_findings_that_touch_keep_all_their_pixels(tmp_path):
    prediction = predict(
        stack(tmp_path / "in"), ("Basilar Tip", 0.3, 3, 15.0, 12.0), ("Anterior Communicating Artery", 0.6, 3, 17.0, 12)
    )
    assert write_seg(prediction, tmp_path / "seg.dcm", SHA, radius_mm=3.0)
    marks = marks_in(tmp_path / "seg.dcm")
    assert {key[:2]: int(image.sum()) for key, image in marks.items()} == {
        (1, f"{SERIES_UID}.4"): 29,
        (2, f"{SERIES_UID}.4"): 29,
    }
    assert marks[1, f"{SERIES_UID}.4", None][12, 20] and marks[2, f"{SERIES_UID}.4", None][12, 12]
