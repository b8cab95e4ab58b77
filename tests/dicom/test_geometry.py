"""Where pixels lie in the patient, and how stacks are turned: against SimpleITK, and by a spot at a known place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from aneurysm.dicom.series import read_series
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, voxel_positions, write_enhanced
from tests.oriented_stacks import CASES, SHAPES, SPACINGS, Stack, centred, centroid, turned_by, write_case

TILT_GAP = Path(__file__).parents[3] / "shared" / "dicom" / "ct_tilt_gap"


@pytest.fixture(scope="module", params=CASES)
def stack(request, tmp_path_factory) -> Stack:
    """A stack on disk in each of the orientations, with a spot at SPOT."""
    return write_case(tmp_path_factory.mktemp("stack"), *request.param)


def test_pixels_lie_where_simpleitk_places_them(stack):
    series = read_series(stack.folder, select=())
    rng = np.random.default_rng(0)
    for frame in series.frames[:: len(series.frames) // 4]:
        image = sitk.ReadImage(str(frame.storage.path))
        for x, y in rng.uniform(0.0, [SHAPES[stack.kind][2] - 1, SHAPES[stack.kind][1] - 1], (3, 2)):
            expected = image.TransformContinuousIndexToPhysicalPoint([x, y, 0.0])
            np.testing.assert_allclose(series.to_patient(x, y, frame.sop_uid), expected, atol=0.01)


def test_whole_stacks_lie_where_simpleitk_places_them(stack):
    series = read_series(stack.folder)
    names = [str(frame.storage.path) for frame in series.frames]  # GDCM sorts along the normal as well
    assert list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(stack.folder))) == names
    volume = sitk.ReadImage(names)
    assert volume.GetSpacing() == pytest.approx(series.geometry.spacing[::-1], abs=1e-4)
    for k, r, c in np.random.default_rng(1).integers(0, SHAPES[stack.kind], (10, 3)).tolist():
        expected = volume.TransformContinuousIndexToPhysicalPoint([float(c), float(r), float(k)])
        np.testing.assert_allclose(series.geometry.to_patient((k, r, c)), expected, atol=0.01)
    stored = sitk.GetArrayFromImage(volume)
    np.testing.assert_array_equal(series.pixels, series.geometry.turned(stored))


@pytest.mark.skipif(not TILT_GAP.is_dir(), reason=f"{TILT_GAP} is not there: a real CT with gantry tilt")
def test_each_slice_of_a_tilted_ct_lies_where_simpleitk_places_it():
    series = read_series(TILT_GAP, select=())
    for frame in series.frames:
        image = sitk.ReadImage(str(frame.storage.path))
        for x, y in ((0.0, 0.0), (511.0, 0.0), (100.25, 433.5)):
            expected = image.TransformContinuousIndexToPhysicalPoint([x, y, 0.0])
            np.testing.assert_allclose(series.to_patient(x, y, frame.sop_uid), expected, atol=0.01)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, turned_by(SAGITTAL, (8, 12, -16))])
def test_frames_of_an_enhanced_file_lie_where_their_groups_say(tmp_path, orientation):
    shape, spacing, first = (7, 20, 30), (3.0, 0.5, 0.7), (-20.0, 30.0, 5.0)
    write_enhanced(tmp_path / "a.dcm", np.zeros(shape, np.int16), orientation, spacing, first)
    series = read_series(tmp_path, select=())
    expected = voxel_positions(shape, first, orientation, spacing)
    for k, y, x in ((0, 0, 0), (6, 19, 29), (3, 4, 21)):
        found = series.to_patient(x, y, series.frames[k].sop_uid, series.frames[k].index)
        np.testing.assert_allclose(found, expected[series.frames[k].index, y, x], atol=0.01)


def test_slice_positions_are_those_of_the_canonical_slices(stack):
    series = read_series(stack.folder, select=())
    first = centred(stack.orientation, stack.kind)
    where = voxel_positions(SHAPES[stack.kind], first, stack.orientation, SPACINGS[stack.kind])
    turned = series.geometry.turned(np.arange(np.prod(SHAPES[stack.kind])).reshape(SHAPES[stack.kind]))
    points = where.reshape(-1, 3)[turned]  # patient position of each canonical voxel
    axis, sense = {"axial": (2, 1), "coronal": (1, 1), "sagittal": (0, 1)}[series.geometry.plane]
    direction = points[1, 0, 0] - points[0, 0, 0]
    assert direction[axis] * sense > 0 and abs(direction[axis]) == abs(direction).max()
    expected = points[:, 0, 0] @ (direction / np.linalg.norm(direction))
    np.testing.assert_allclose(series.geometry.slice_positions_mm(), expected, atol=0.01)


def test_a_spot_on_the_left_in_front_and_above_is_seen_there(stack):
    series = read_series(stack.folder)
    found = centroid(series.pixels)
    side = np.sign(found - (np.array(series.pixels.shape) - 1) / 2).astype(int).tolist()
    # slice, row, column of the canonical orientation: see geometry
    expected = {"axial": [1, -1, 1], "coronal": [-1, -1, 1], "sagittal": [1, -1, -1]}
    assert side == expected[series.geometry.plane]
    assert series.geometry.plane == "axial" or stack.kind == "thick"
