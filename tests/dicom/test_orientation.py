"""Directions that are no unit vectors or not at right angles keep their signs; only what cannot be is assumed."""

from __future__ import annotations

import numpy as np
import pytest

from aneurysm.dicom.orientation import find_orientation
from aneurysm.dicom.series import read_series
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, ramp, warned, write_stack

VOLUME = ramp((4, 6, 8))


@pytest.mark.parametrize("lengths", [(1.25, 1.25), (0.4, 0.7), (1000, 1e-3)])
@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
def test_vectors_of_any_length_keep_their_directions(tmp_path, plane, signs, lengths):
    unit = [signs[i // 3] * value for i, value in enumerate(plane)]
    write_stack(tmp_path / "right", VOLUME, unit)
    long = [lengths[i // 3] * value for i, value in enumerate(unit)]
    write_stack(tmp_path / "long", VOLUME, unit, ImageOrientationPatient=long)
    right, mended = read_series(tmp_path / "right"), read_series(tmp_path / "long")
    np.testing.assert_array_equal(mended.pixels, right.pixels)
    np.testing.assert_allclose(mended.geometry.orientation, right.geometry.orientation, atol=1e-9)
    assert mended.geometry.flip == right.geometry.flip and right.warnings == []
    assert warned(mended, "expected unit vectors at right angles") and warned(mended, "directions kept")


def test_axes_that_are_not_at_right_angles_are_made_so(tmp_path):
    skewed = [-1, 0, 0, 0.5, -np.sqrt(0.75), 0]  # 120 degrees between them
    write_stack(tmp_path, VOLUME, ImageOrientationPatient=[f"{value:.6f}" for value in skewed])
    series = read_series(tmp_path)
    np.testing.assert_allclose(series.geometry.orientation, [-1, 0, 0, 0, -1, 0], atol=1e-6)
    np.testing.assert_array_equal(series.pixels, VOLUME[:, ::-1, ::-1])
    assert warned(series, "an angle of 120 degrees")


def test_slices_whose_vectors_differ_in_length_alone_are_one_stack(tmp_path):
    write_stack(tmp_path, VOLUME, each=lambda i: {"ImageOrientationPatient": [1 + i, 0, 0, 0, 1 + i, 0]})
    np.testing.assert_array_equal(read_series(tmp_path).pixels, VOLUME)


@pytest.mark.parametrize(
    ("said_by_header", "axis", "expected", "text"),
    [
        (None, 2, (1, 0, 0, 0, 1, 0), "image orientation missing: taken as axial"),
        ((0, 0, 0, 0, 0, 0), 1, (1, 0, 0, 0, 0, -1), "taken as coronal"),
        ((1, 0, 0, 1, 0, 0), 2, (1, 0, 0, 0, 1, 0), "taken as axial"),
        ((-1, 0, 0, 0, 0, 0), 2, (-1, 0, 0, 0, 1, 0), "with the direction of its rows as it is"),
        ((0, 0, 0, 0, -2, 0), 2, (1, 0, 0, 0, -1, 0), "with the direction of its columns as it is"),
        ((0, 0, 1, 0, 0, 0), 2, (1, 0, 0, 0, 1, 0), "taken as axial"),  # its rows would run along the way of the slices
    ],
)
def test_only_what_the_header_does_not_tell_is_assumed_and_said(said_by_header, axis, expected, text):
    positions, warnings = [tuple(5.0 * i * (a == axis) for a in range(3)) for i in range(4)], []
    np.testing.assert_allclose(find_orientation(said_by_header, positions, warnings), expected, atol=1e-9)
    assert len(warnings) == 1 and text in warnings[0]
