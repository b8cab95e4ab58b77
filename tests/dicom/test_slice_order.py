"""Slices that are missing, or whose positions are: said with millimetres, placed where it is certain, or left out."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from aneurysm.dicom.series import read_series
from tests.dicom_writer import ramp, warned, write_enhanced, write_image, write_stack

VOLUME = ramp((8, 6, 8))


@pytest.mark.parametrize("n_frames", [8, None])
def test_a_multi_frame_file_that_ends_early_says_how_many_millimetres_are_missing(tmp_path, n_frames):
    path = write_enhanced(tmp_path / "e.dcm", VOLUME, spacing=(2.5, 1, 1), NumberOfFrames=n_frames)
    path.write_bytes(path.read_bytes()[: -int(3.5 * 6 * 8 * 2)])
    series = read_series(path)
    np.testing.assert_array_equal(series.pixels, VOLUME[:4])
    assert warned(series, "e.dcm: 4 of 8 frames missing, about 10 mm")


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_compressed_file_that_ends_early_says_it_too(tmp_path, syntax):
    volume = ramp((8, 32, 32))
    path = write_enhanced(tmp_path / "e.dcm", volume, spacing=(2.5, 1, 1), syntax=syntax)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"\xfe\xff\x00\xe0") + 20])  # in the last frame
    series = read_series(path)
    np.testing.assert_array_equal(series.pixels, volume[:7])
    assert warned(series, "e.dcm: 1 of 8 frames missing, about 2.5 mm") and len(series.warnings) == 1


def test_gaps_are_said_with_the_millimetres_that_they_lack(tmp_path):
    write_stack(tmp_path, VOLUME)
    (tmp_path / "898.dcm").unlink()
    (tmp_path / "897.dcm").unlink()
    assert warned(read_series(tmp_path), "10 mm are missing in gaps larger than the usual 5 mm")


@pytest.mark.parametrize("bare", [[3], [3, 4], [2, 5]])
def test_slices_without_a_position_are_placed_where_just_their_gap_is_open(tmp_path, bare):
    write_stack(tmp_path, VOLUME, each=lambda i: {"ImagePositionPatient": None} if i in bare else {})
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, VOLUME)
    np.testing.assert_allclose(series.geometry.positions[:, 2], 5.0 * np.arange(8))
    assert warned(series, f"{900 - bare[0]}.dcm at [0.0, 0.0, {5.0 * bare[0]}]") and not warned(series, "uneven")


def test_a_slice_without_a_position_is_left_out_where_no_gap_is_open_or_more_fits_in_it(tmp_path):
    write_stack(tmp_path, VOLUME, each=lambda i: {"ImagePositionPatient": None} if i in (0, 3) else {})
    (tmp_path / "898.dcm").unlink()  # slice 3 is placed all the same, between 1 and 4
    write_image(tmp_path / "odd.dcm", VOLUME[0], ImagePositionPatient=None, InstanceNumber=5, SOPInstanceUID="1.9")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, VOLUME[[1, 3, 4, 5, 6, 7]])
    assert warned(series, "2 of 8 images left out, position missing: 900.dcm, odd.dcm")


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        (lambda i: {"InstanceNumber": i, "SliceLocation": -i}, "instance number"),
        (lambda i: {"InstanceNumber": 1, "SliceLocation": 2.5 * i}, "slice location"),
        (lambda i: {"InstanceNumber": None, "AcquisitionTime": f"1010{10 + i}.5"}, "acquisition time"),
    ],
)
def test_without_positions_the_first_element_that_differs_in_all_gives_the_order(tmp_path, tags, name):
    write_stack(tmp_path, VOLUME, each=lambda i: {"ImagePositionPatient": None} | tags(i))
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert warned(series, f"image positions missing: sorted by {name}")


def test_file_names_are_sorted_by_their_numbers(tmp_path):
    tags = {"ImagePositionPatient": None, "InstanceNumber": None}
    for i in range(8):
        write_image(tmp_path / f"IM{2 * i + 1}", VOLUME[i], SOPInstanceUID=f"1.{i}", **tags)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, VOLUME)


def test_multi_frame_files_without_geometry_follow_one_another(tmp_path):
    for name, number, half in (("b", 1, VOLUME[:4]), ("a", 2, VOLUME[4:])):
        tags = {"InstanceNumber": number, "SOPInstanceUID": f"1.{number}"}
        write_enhanced(tmp_path / name, half, geometry="none", **tags)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, VOLUME)
