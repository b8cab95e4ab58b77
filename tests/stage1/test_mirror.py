"""Left and right exchanged, against a small head in patient coordinates and its mirror image."""

import subprocess
import sys
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from aneurysm.dicom.geometry import CANONICAL
from aneurysm.labels import LOCATIONS
from aneurysm.stage1.sample import Sample, mirror, mirror_images, mirror_logits

SHAPE = (33, 24, 28)  # voxels of the head to the left, to the back and upward
BALL = np.array([24, 9, 19])  # in the patient's left half, off every middle
BESIDE_BALL = {"axial": 18, "coronal": 10, "sagittal": 23}  # slices one off its centre: a window's three slices differ


class Head(NamedTuple):
    """A head in patient coordinates; names, not numbers, say what is left and right."""

    volume: np.ndarray
    ball: np.ndarray
    artery: str  # that the ball lies at
    vessels: list[tuple[str, tuple[slice, slice, slice]]]


def head() -> Head:
    volume = 0.4 * np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    distance = np.linalg.norm(np.indices(SHAPE) - BALL.reshape(3, 1, 1, 1), axis=0)
    volume[distance < 3] = 1 - 0.1 * distance[distance < 3]
    vessels = [
        ("Left Middle Cerebral Artery", np.s_[18:26, 8:11, 17:20]),
        ("Right Infraclinoid Internal Carotid Artery", np.s_[9:25, 9:12, 16:19]),
        ("Basilar Tip", np.s_[14:25, 10:18, 18:21]),
    ]
    return Head(volume, BALL, "Left Middle Cerebral Artery", vessels)


def mirrored_head() -> Head:
    """The same with the patient's left and right exchanged: x becomes 32 - x, and Left in a name Right."""
    original = head()
    vessels = [
        ("Right Middle Cerebral Artery", np.s_[7:15, 8:11, 17:20]),
        ("Left Infraclinoid Internal Carotid Artery", np.s_[8:24, 9:12, 16:19]),
        ("Basilar Tip", np.s_[8:19, 10:18, 18:21]),
    ]
    ball = np.array([32 - 24, 9, 19])
    return Head(original.volume[::-1], ball, "Right Middle Cerebral Artery", vessels)


def canonical(volume: np.ndarray, plane: str) -> np.ndarray:
    """Slices, rows and columns of the plane, cut out of a volume in patient coordinates."""
    turned = volume.transpose([axis for axis, _ in CANONICAL[plane]])
    return turned[tuple(slice(None, None, sense) for _, sense in CANONICAL[plane])]


def window(head: Head, plane: str, mirrored: bool) -> Sample:
    """The window beside the ball, and what is known of it by the places in the head."""
    at = BESIDE_BALL[plane]
    if plane == "sagittal" and mirrored:
        at = SHAPE[0] - 1 - at  # as far from the midline, on the other side
    masked, marked = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    for name, where in head.vessels:
        masked[where] = 1 + LOCATIONS.index(name)
    marked[tuple(head.ball)] = True
    _, row, column = np.argwhere(canonical(marked, plane))[0]
    return Sample(
        image=np.ascontiguousarray(canonical(head.volume, plane)[at - 1 : at + 2].transpose(1, 2, 0)),
        points=np.array([[column, row]], np.float32),
        point_locations=np.array([LOCATIONS.index(head.artery)]),
        vessels=np.ascontiguousarray(canonical(masked, plane)[at]),
    )


def pair(plane: str) -> tuple[Sample, Sample]:
    return window(head(), plane, mirrored=False), window(mirrored_head(), plane, mirrored=True)


def assert_equal(found: Sample, expected: Sample) -> None:
    for name in ("image", "labels", "points", "point_locations", "vessels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype, name
    assert found.image.flags.c_contiguous


@pytest.mark.parametrize("plane", CANONICAL)
def test_a_mirrored_window_is_the_window_of_the_mirrored_head(plane):
    left, right = pair(plane)
    assert len(np.unique(left.vessels)) == 4 and not np.array_equal(left.image[..., 0], left.image[..., 2])
    assert_equal(mirror(left, plane), right)
    assert_equal(mirror(right, plane), left)


@pytest.mark.parametrize("plane", CANONICAL)
def test_mirroring_twice_changes_nothing_and_leaves_its_input_alone(plane):
    sample, untouched = pair(plane)[0], pair(plane)[0]
    assert_equal(mirror(mirror(sample, plane), plane), untouched)
    assert_equal(sample, untouched)


def test_the_columns_of_a_sagittal_window_are_front_and_back_and_stay():
    left, right = pair("sagittal")
    x, y = left.points[0].astype(int)
    assert (x, y) == (9, 28 - 1 - 19)  # columns run to the back, rows downward
    np.testing.assert_array_equal(left.points, right.points)
    np.testing.assert_array_equal(left.image[y, x], right.image[y, x, ::-1])


def test_a_sample_without_points_and_mask_is_mirrored_too():
    sample = replace(
        pair("axial")[0], points=np.zeros((0, 2), np.float32), point_locations=np.zeros(0, np.int64), vessels=None
    )
    mirrored = mirror(sample, "axial")
    assert mirrored.points.shape == (0, 2) and mirrored.point_locations.shape == (0,) and mirrored.vessels is None


@pytest.mark.parametrize("plane", CANONICAL)
def test_outputs_for_mirrored_images_are_brought_back_to_the_images_themselves(plane):
    left, right = pair(plane)
    batch = torch.from_numpy(np.stack([left.image, right.image]).transpose(0, 3, 1, 2))  # (2, 3, rows, columns)
    in_columns = torch.tensor([plane != "sagittal"] * 2)
    np.testing.assert_array_equal(mirror_images(batch, in_columns), batch[[1, 0]])
    logits = torch.from_numpy(np.stack([left.labels, right.labels]))  # a perfect encoder's are the labels
    np.testing.assert_array_equal(mirror_logits(logits), logits[[1, 0]])


def test_an_unknown_plane_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match="'oblique': expected one of axial, coronal, sagittal"):
        mirror(pair("axial")[0], "oblique")


def test_prediction_can_mirror_where_albumentations_is_missing():
    code = "import sys; sys.modules['albumentations'] = None; import aneurysm.stage1.sample"
    subprocess.run([sys.executable, "-c", code], check=True)
