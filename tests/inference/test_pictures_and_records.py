"""Pictures of findings, and the record of a prediction: against the files' own tags."""

import json
import pickle
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import torch
from torch.nn import functional

from aneurysm.inference.peaks import Curves, Peak, find_peaks
from aneurysm.inference.pictures import Picture, take_pictures
from aneurysm.inference.prediction import Prediction
from aneurysm.inference.record import record_of
from aneurysm.inference.sampled import read_sampled
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, write_enhanced, write_stack
from tests.inference.test_peaks import FIRST, INPUT, LEFT_MCA, REQUEST, TURNED, brightest, features_at, head_with_dot

BUNDLE = {"sha256": "abc", "commit": "def", "calibration": "not calibrated"}
CPU = torch.device("cpu")
KEPT = replace(REQUEST, keep_slices=True)
DOT = (12, 20, 42)  # slice, row, column of a bright voxel: left of the middle of the head, and in front of it


class Finder:
    """A stage 1 whose heatmap is the brightness of the window's own slice, at an eighth of its size."""

    def __init__(self, heatmaps: bool = True):
        self.heatmaps = heatmaps

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = functional.max_pool2d(images[:, 1:2], 8) * 20 - 12
        return {"aneurysm_map": found} if self.heatmaps else {}


def model(views: tuple[str, ...], heatmaps: bool = True) -> SimpleNamespace:
    encoder = SimpleNamespace(model=Finder(heatmaps), device=CPU, precision=SimpleNamespace(autocast=nullcontext))
    return SimpleNamespace(config1=SimpleNamespace(input=INPUT), encoders=[dict.fromkeys(views, encoder)])


def curves_of(series, peaks: dict[int, float]) -> Curves:
    """Aneurysm Present is 0.01 but for some windows; the third location is the most probable one."""
    probability = np.full((len(series.index), 14), 0.01)
    for window, value in peaks.items():
        probability[window, -1] = value
        probability[window, 2] = value / 2
    return Curves(series.index, series.position_mm[series.index], probability)


def pictures_of(series, peaks: dict[int, float], n: int = 1, models=None, found=()) -> tuple[Picture, ...]:
    """Of the findings `found`; without any, of the windows with a peak in the curve."""
    return take_pictures(models or [model(("original",))], series, (INPUT,), curves_of(series, peaks), found, n)


@pytest.mark.parametrize("views", [("original",), ("mirror",), ("original", "mirror")])
@pytest.mark.parametrize(
    ("orientation", "spacing"),
    [(AXIAL, (4.0, 3.0, 3.0)), (TURNED, (4.0, 3.0, 3.0)), (SAGITTAL, (5.0, 3.0, 3.0)), (CORONAL, (1.8, 2.0, 2.0))],
)
def test_a_finding_and_its_heatmap_lie_over_the_dot_in_all_planes_and_views(tmp_path, orientation, spacing, views):
    write_stack(tmp_path, head_with_dot((24, 64, 64), DOT), orientation, spacing, FIRST)
    series = read_sampled(tmp_path, KEPT)
    window, x, y = brightest(series)
    peaks = find_peaks([features_at(series, window, x, y, views)], series)
    (picture,) = pictures_of(series, {0: 0.9}, models=[model(views)], found=peaks)
    assert picture.slice == series.index[window] and picture.location == LOCATIONS[LEFT_MCA]
    assert picture.probability == pytest.approx(1 / (1 + np.exp(-2)))
    for seen in (picture.image, picture.heatmap):  # cells of the heatmap are 8 of 256 pixels wide
        row, col = np.unravel_index(seen.argmax(), seen.shape)
        assert np.hypot(picture.x - col, picture.y - row) < 16
    middle = (512 - 1) / 2
    assert abs(picture.x - middle) > 30  # else mirroring would not show
    assert np.hypot(picture.column - DOT[2], picture.row - DOT[1]) < 3  # the dot's place in the original image
    assert picture.heatmap.max() > 0.9 and np.median(picture.heatmap) < 0.1
    pixels = pydicom.dcmread(tmp_path / picture.file).pixel_array
    assert picture.sop_uid == pydicom.dcmread(tmp_path / picture.file).SOPInstanceUID
    assert pixels.max() == 900  # the file that holds the dot


def test_the_image_of_a_picture_is_the_slice_as_it_is_cached(tmp_path):
    write_stack(tmp_path, head_with_dot((24, 64, 64), DOT), spacing=(4.0, 3.0, 3.0), first=FIRST)
    series = read_sampled(tmp_path, KEPT)
    images = series.slices.images
    assert images.shape == (24, 512, 512) and images.dtype == np.uint8 and series.slices.number.tolist() == [*range(24)]
    # The window is 0 to 600 HU: the head of 40 HU is 40 / 600 of 255, the air nothing, the dot white.
    assert images[12].max() == 255 and images[3].max() == round(255 * 40 / 600)
    assert images[3].min() == 0 and read_sampled(tmp_path, REQUEST).slices is None
    (picture,) = pictures_of(series, {3: 0.9})
    widths = (picture.image > 8).sum(axis=1)
    # 43 columns of 3 mm are head; half a pixel at either end turns dark, where it meets air of -1000 HU.
    assert widths.max() * picture.pixel_mm == pytest.approx(42 * 3.0, abs=1)


def test_pictures_of_slices_lie_apart_the_highest_first(tmp_path):
    write_stack(tmp_path, head_with_dot((24, 64, 64), DOT), spacing=(4.0, 3.0, 3.0), first=FIRST)
    series = read_sampled(tmp_path, KEPT)
    curves = {5: 0.8, 6: 0.9, 8: 0.7, 9: 0.6, 2: 0.3}  # 4 mm apart: 5 and 8 are too near to 6
    pictures = pictures_of(series, curves, 3)
    assert [int(np.flatnonzero(series.index == picture.slice)[0]) for picture in pictures] == [6, 9, 2]
    assert [picture.probability for picture in pictures] == [0.9, 0.6, 0.3]
    assert pictures_of(series, curves, 0) == ()


def test_findings_are_shown_highest_first_and_those_near_a_higher_one_not_at_all(tmp_path):
    write_stack(tmp_path, head_with_dot((24, 64, 64), DOT), spacing=(4.0, 3.0, 3.0), first=FIRST)
    series = read_sampled(tmp_path, KEPT)
    first = Peak(LOCATIONS[0], 0.4, int(series.index[5]), 200.0, 90.0, series.files[0], *series.mapping.images[0], 1.0,
                 2.0, (10.0, 20.0, 30.0))  # fmt: skip
    near = replace(first, location=LOCATIONS[1], probability=0.3, patient_mm=(10.0, 20.0, 39.9))
    beside = replace(first, location=LOCATIONS[2], probability=0.2, patient_mm=(20.1, 20.0, 30.0))  # same slice
    highest = replace(first, location=LOCATIONS[3], probability=0.5, slice=int(series.index[9]),
                      patient_mm=(10.0, 20.0, 60.0))  # fmt: skip
    pictures = pictures_of(series, {0: 0.9}, 3, found=(first, near, beside, highest))
    assert [picture.location for picture in pictures] == [LOCATIONS[3], LOCATIONS[0], LOCATIONS[2]]
    assert [picture.probability for picture in pictures] == [0.5, 0.4, 0.2]
    assert [picture.slice for picture in pictures] == series.index[[9, 5, 5]].tolist()
    assert (pictures[0].x, pictures[0].y, pictures[0].column, pictures[0].row) == (200, 90, 1, 2)


def test_models_without_heatmaps_make_pictures_without_heat(tmp_path):
    write_stack(tmp_path, head_with_dot((24, 64, 64), DOT), spacing=(4.0, 3.0, 3.0), first=FIRST)
    series = read_sampled(tmp_path, KEPT)
    (picture,) = pictures_of(series, {5: 0.8}, models=[model(("original",), heatmaps=False)])
    assert picture.location == LOCATIONS[2] and picture.slice == series.index[5]
    assert np.isnan(picture.heatmap).all() and np.isnan([picture.x, picture.row]).all() and picture.sop_uid
    both = [model(("original",), heatmaps=False), model(("original",))]
    (picture,) = pictures_of(series, {5: 0.8}, models=both)
    assert isinstance(picture, Picture) and np.isfinite(picture.heatmap).all()


@pytest.mark.parametrize(
    ("spacing_mm", "window", "around"),
    [(1.0, 15, range(5, 26)), (1.0, 3, range(14)), (4.0, 15, range(12, 19)), (5.0, 15, range(12, 19))],
)
def test_a_picture_has_the_21_slices_around_it_or_those_within_15_mm(tmp_path, spacing_mm, window, around):
    write_stack(tmp_path, head_with_dot((40, 64, 64), DOT), spacing=(spacing_mm, 3.0, 3.0), first=FIRST)
    series = read_sampled(tmp_path, KEPT)
    nearest = int(np.abs(series.index - window).argmin())
    (picture,) = pictures_of(series, {nearest: 0.9})
    slab, shift = picture.slab, series.index[nearest] - window
    assert slab.number[slab.middle] == picture.slice and slab.number.tolist() == [n + shift for n in around]
    np.testing.assert_allclose(np.diff(slab.position_mm), spacing_mm)
    np.testing.assert_array_equal(slab.images[slab.middle], picture.image)


@pytest.mark.parametrize(("orientation", "spacing"), [(AXIAL, (1.0, 3.0, 3.0)), (CORONAL, (1.8, 2.0, 2.0))])
def test_of_the_slices_around_only_those_are_decoded_that_were_not_before(tmp_path, monkeypatch, orientation, spacing):
    write_stack(tmp_path, head_with_dot((40, 64, 64), DOT), orientation, spacing, FIRST)
    decoded, decode = [], sys.modules["aneurysm.dicom.series"].decode_frame
    request = replace(KEPT, slice_spacing_mm=7.0)
    series = pickle.loads(pickle.dumps(read_sampled(tmp_path, request)))  # as from a worker process
    monkeypatch.setattr("aneurysm.dicom.series.decode_frame", lambda frame: decoded.append(frame.name) or decode(frame))
    (picture,) = pictures_of(series, {len(series.index) // 2: 0.9})
    missing = set(picture.slab.number) - set(series.slices.number)
    assert len(decoded) == len(set(decoded)) == len(missing) and bool(missing) == (orientation == AXIAL)
    every = read_sampled(tmp_path, replace(KEPT, slice_spacing_mm=0.0)).slices
    assert len(picture.slab.number) == 21 or orientation == CORONAL
    np.testing.assert_array_equal(picture.slab.images, every.images[picture.slab.number])


def test_files_that_are_gone_by_then_leave_the_slices_that_were_decoded_before(tmp_path):
    write_stack(tmp_path, head_with_dot((40, 64, 64), DOT), spacing=(1.0, 3.0, 3.0), first=FIRST)
    series = read_sampled(tmp_path, replace(KEPT, slice_spacing_mm=7.0))
    for file in tmp_path.iterdir():
        file.unlink()
    (picture,) = pictures_of(series, {2: 0.9})
    slab = picture.slab
    assert slab.number[slab.middle] == picture.slice and set(slab.number) <= set(series.slices.number)
    assert len(slab.number) > 3


def predicted(folder: Path) -> Prediction:
    series = read_sampled(folder, REQUEST)
    files = series.files
    peaks = [Peak(LOCATIONS[0], 0.25, 3, 20.0, 40.0, files[0], "1.2", 0, 10.126, 20.0, (1.0, 2.0, 3.0)),
             Peak(LOCATIONS[4], 0.75, 2, 22.0, 42.0, files[1], "1.3", 0, 11.0, 21.0, (4.0, 5.0, 6.0))]  # fmt: skip
    return Prediction(
        folder, np.linspace(0, 1, 14), {}, series.uid, series.without_images(), curves_of(series, {5: 0.8}),
        tuple(peaks), seconds={"decode": 0.12345}, warnings=("one",), left_out=("two",),
    )  # fmt: skip


@pytest.mark.parametrize("orientation", [AXIAL, TURNED, SAGITTAL])
def test_each_slice_of_the_curves_names_the_image_that_lies_there(tmp_path, orientation):
    write_stack(tmp_path, head_with_dot((24, 64, 64), DOT), orientation, (4.0, 3.0, 3.0), FIRST)
    curves = record_of(predicted(tmp_path), np.zeros(14), BUNDLE)["curves"]
    headers = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, tmp_path.iterdir())}
    axis = 0 if orientation == SAGITTAL else 2
    places = [headers[uid].ImagePositionPatient[axis] for uid in curves["sop_instance_uid"]]
    np.testing.assert_allclose(places, curves["position_mm"])
    assert len(set(places)) == len(places) > 10 and set(curves["frame"]) == {0}


def test_frames_of_a_multi_frame_file_are_told_apart(tmp_path):
    write_enhanced(tmp_path / "e.dcm", head_with_dot((24, 64, 64), DOT), TURNED, (4.0, 3.0, 3.0), FIRST)
    curves = record_of(predicted(tmp_path), np.zeros(14), BUNDLE)["curves"]
    groups = pydicom.dcmread(tmp_path / "e.dcm").PerFrameFunctionalGroupsSequence
    places = [groups[frame].PlanePositionSequence[0].ImagePositionPatient[2] for frame in curves["frame"]]
    np.testing.assert_allclose(places, curves["position_mm"])


def test_the_record_holds_what_was_said_and_can_be_written_as_json(tmp_path):
    write_stack(tmp_path, head_with_dot((24, 64, 64), DOT), AXIAL, (4.0, 3.0, 2.0), FIRST)
    record = json.loads(json.dumps(record_of(predicted(tmp_path), np.full(14, 0.5), BUNDLE), allow_nan=False))
    assert record["probabilities"][LABELS[0]] == 0 and record["probabilities"][PRESENT] == 1
    assert list(record["probabilities"]) == list(LABELS) and record["prevalence"][LABELS[3]] == 0.5
    assert record["failure"] == "" and record["warnings"] == ["one"] and record["left_out"] == ["two"]
    assert record["geometry"]["spacing_mm"] == [4, 3, 2] and record["geometry"]["images"] == 24
    assert record["geometry"]["first_position_mm"] == list(FIRST) and record["plane"] == "axial"
    strongest, other = record["findings"]
    assert strongest["location"] == LOCATIONS[4] and strongest["patient_mm"] == [4, 5, 6]
    assert (other["x"], other["y"], other["file"]) == (10.13, 20, sorted(p.name for p in tmp_path.iterdir())[-1])
    assert record["curves"]["probability"][PRESENT][5] == 0.8 and record["bundle"] == BUNDLE


def test_a_series_that_was_cut_anew_has_no_image_for_each_slice(tmp_path):
    write_stack(tmp_path, head_with_dot((40, 64, 64), DOT), CORONAL, (1.8, 2.0, 2.0), FIRST)
    record = record_of(predicted(tmp_path), np.zeros(14), BUNDLE)
    assert record["geometry"]["resliced"] and record["curves"]["sop_instance_uid"] is None


def test_a_series_without_an_answer_has_no_probabilities(tmp_path):
    reason = "the training prevalences stand for an answer: no file"
    failed = Prediction(tmp_path, np.full(14, 0.3), {}, "1.2", warnings=("other", reason), failure="no file")
    record = record_of(failed, np.full(14, 0.3), BUNDLE)
    assert record["probabilities"] is None and record["failure"] == "no file" and record["warnings"] == ["other"]
    assert record["findings"] == [] and record["curves"] is None and record["geometry"] is None
