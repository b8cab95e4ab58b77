"""The order of slices: groups, repeated or missing positions, tilt, gaps, and the turn to one orientation."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from aneurysm.dicom.series import read_series
from tests.dicom_writer import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    ramp,
    warned,
    write_enhanced,
    write_image,
    write_stack,
)


@pytest.mark.parametrize(
    "odd",
    [
        {"ImageOrientationPatient": list(SAGITTAL)},
        {"ImageOrientationPatient": list(CORONAL)},
        {"PixelSpacing": [2, 2]},
        {"SeriesInstanceUID": "1.2.3"},
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
    ],
)
def test_the_largest_consistent_group_is_kept_and_the_rest_named(tmp_path, odd):
    volume = ramp((5, 12, 14))
    write_stack(tmp_path / "main", volume)
    for i in range(3):  # sorts before the others, so that being first does not decide
        tags = {"ImagePositionPatient": [i, i, i], "SOPInstanceUID": f"9.{i}"} | odd
        write_image(tmp_path / "a" / f"scout{i}.dcm", volume[i], **tags)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert warned(series, "3 of 8 images left out") and warned(series, "scout1.dcm")


def test_originals_win_over_more_reformats_of_another_orientation(tmp_path):
    volume = ramp((6, 12, 14))
    write_stack(tmp_path / "a", volume, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    tags = {"ImageType": ["DERIVED", "SECONDARY", "MPR"], "each": lambda i: {"SOPInstanceUID": f"9.{i}"}}
    write_stack(tmp_path / "b", ramp((12, 6, 14)), CORONAL, (1.0, 5, 1), **tags)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert warned(series, "12 of 18 images left out")


def test_images_of_another_size_are_left_out(tmp_path):
    volume = ramp((3, 12, 14))
    write_stack(tmp_path, volume)
    write_image(tmp_path / "scout", ramp((1, 30, 20))[0])
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert warned(series, "scout")


def test_of_repeated_positions_the_first_in_time_is_kept_everywhere(tmp_path):
    early, late = ramp((4, 6, 8)), ramp((4, 6, 8), start=1000)
    noise_mm = [0.0, 3e-4, -3e-4, 2e-4]  # positions written with few digits differ a little between time points
    for name, volume, time_point, sign in (("b", early, 1, 1), ("a", late, 2, -1)):
        tags = [
            {
                "TemporalPositionIdentifier": time_point,
                "ImagePositionPatient": [0, 0, 5 * i + sign * noise_mm[i]],
                "SOPInstanceUID": f"{time_point}.{i}",
                "InstanceNumber": 10 - i,
            }
            for i in range(4)
        ]
        write_stack(tmp_path / name, volume, each=lambda i, tags=tags: tags[i], Modality="MR")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, early)
    assert warned(series, "4 images repeat the position of another")
    assert [frame.sop_uid for frame in series.frames] == ["1.0", "1.1", "1.2", "1.3"]
    # a localizer on an image that was left out lands on the one that stands for it
    assert [series.to_cache(3, 2, f"2.{i}") for i in range(4)] == [series.to_cache(3, 2, f"1.{i}") for i in range(4)]


def test_a_multi_frame_file_of_two_time_points_keeps_the_first(tmp_path):
    volume = ramp((6, 8, 8))
    path = write_enhanced(tmp_path / "a.dcm", volume)
    dataset = pydicom.dcmread(path)
    for i, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):  # frames 0, 2, 4 are the second time point
        item.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5 * (i // 2)]
        item.FrameContentSequence[0].TemporalPositionIndex = 2 - i % 2
    dataset.save_as(path)
    series = read_series(path)
    np.testing.assert_array_equal(series.pixels, volume[1::2])
    assert series.to_cache(1, 1, series.frames[0].sop_uid, 4)[2] == 2


def test_gantry_tilt_keeps_all_slices_and_is_said(tmp_path):
    volume = ramp((5, 6, 8))
    tilt = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    write_stack(tmp_path, volume, orientation, each=lambda i: {"ImagePositionPatient": [0, 0, 4 * i]})
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert series.geometry.spacing[0] == pytest.approx(4 * np.cos(tilt))
    assert warned(series, "gantry tilt of 20.0 degrees")


def test_uneven_gaps_keep_every_slice_at_its_own_position(tmp_path):
    z = [0, 1, 2, 7, 8, 9.5]
    volume = ramp((6, 6, 8))
    write_stack(tmp_path, volume, each=lambda i: {"ImagePositionPatient": [0, 0, z[i]]})
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    np.testing.assert_allclose(series.geometry.slice_positions_mm(), z)
    assert warned(series, "unevenly spaced") and series.geometry.spacing[0] == 1


def test_positions_win_over_a_wrong_gap_in_the_header(tmp_path):
    write_stack(tmp_path, ramp((4, 6, 8)), spacing=(0.498, 1, 1), SpacingBetweenSlices=18, SliceThickness=1)
    series = read_series(tmp_path)
    assert series.geometry.spacing[0] == pytest.approx(0.498)
    assert warned(series, "18")


def test_without_positions_slices_follow_the_instance_numbers(tmp_path):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, ImagePositionPatient=None, SpacingBetweenSlices=1.25)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    np.testing.assert_allclose(np.diff(series.geometry.positions, axis=0), [[0, 0, 1.25]] * 3)
    assert warned(series, "positions missing")


def test_without_positions_and_numbers_slices_follow_the_names(tmp_path):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, ImagePositionPatient=None, InstanceNumber=None)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume[::-1])


def test_slices_all_at_one_position_are_kept_by_number_with_a_warning(tmp_path):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, ImagePositionPatient=[1, 2, 3])
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert warned(series, "lie at one position")


@pytest.mark.parametrize(("axis", "plane"), [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_a_missing_orientation_is_taken_from_the_way_the_positions_move(tmp_path, axis, plane):
    def position(i: int) -> dict:
        return {"ImagePositionPatient": [5.0 * i * (a == axis) for a in range(3)]}

    write_stack(tmp_path, ramp((4, 6, 8)), ImageOrientationPatient=None, each=position)
    series = read_series(tmp_path)
    assert series.geometry.plane == plane
    assert warned(series, "orientation missing")


@pytest.mark.parametrize("orientation", [[0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0]])
def test_an_orientation_that_cannot_be_is_not_believed(tmp_path, orientation):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, ImageOrientationPatient=orientation)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert warned(series, "orientation")


@pytest.mark.parametrize("spacing", [[0, 0], [-1, -1], [0.05, 20], [1e-30, 1e30]])
def test_a_pixel_spacing_that_cannot_be_is_replaced_with_a_warning(tmp_path, spacing):
    write_stack(tmp_path, ramp((3, 6, 8)), PixelSpacing=spacing)
    series = read_series(tmp_path)
    assert series.geometry.spacing[1:] == (0.5, 0.5)
    assert warned(series, "pixel spacing")


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (AXIAL, lambda v: v),
        ((-1, 0, 0, 0, 1, 0), lambda v: v[::-1, :, ::-1]),
        ((1, 0, 0, 0, -1, 0), lambda v: v[::-1, ::-1]),
        ((-1, 0, 0, 0, -1, 0), lambda v: v[:, ::-1, ::-1]),
        ((0, 1, 0, 1, 0, 0), lambda v: v[::-1].transpose(0, 2, 1)),
        (CORONAL, lambda v: v),
        ((-1, 0, 0, 0, 0, -1), lambda v: v[::-1, :, ::-1]),
        ((1, 0, 0, 0, 0, 1), lambda v: v[::-1, ::-1]),
        (SAGITTAL, lambda v: v[::-1]),  # back, then down: the normal points to the right
        ((0, -1, 0, 0, 0, -1), lambda v: v[:, :, ::-1]),
    ],
)
def test_thick_stacks_are_turned_to_the_orientation_of_their_plane(tmp_path, orientation, turn):
    volume = ramp((3, 6, 8))
    write_stack(tmp_path, volume, orientation)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, turn(volume))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (CORONAL, lambda v: v.transpose(1, 0, 2)[::-1]),
        (SAGITTAL, lambda v: v.transpose(1, 2, 0)[::-1, :, ::-1]),
        ((0, -1, 0, 0, 0, -1), lambda v: v.transpose(1, 2, 0)[::-1, ::-1]),
    ],
)
def test_thin_stacks_are_resliced_to_axial(tmp_path, orientation, turn):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, orientation, (1.0, 1, 1))
    series = read_series(tmp_path, select=[1, 5, 0])
    assert series.geometry.plane == "axial"
    np.testing.assert_array_equal(series.pixels, turn(volume)[[1, 5, 0]])
