"""What a window should be answered with: labels by the distance along the slice axis, maps by the place."""

import numpy as np
import pytest

from aneurysm.folds.targets import NONE, RIM, Localizers, ball_target, localizers_by_series
from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.stage1.config import InputConfig
from aneurysm.stage1.dataset import label_windows
from tests.stage1_cache import make_spots, spot

BASILAR, ACOM = LOCATIONS.index("Basilar Tip"), LOCATIONS.index("Anterior Communicating Artery")
POINT = {"x": 10.0, "y": 20.0}
SPOTS = make_spots(
    [
        spot("a", 0, 10, 10.0, "axial", x=100.0, y=50.0, location="Basilar Tip"),
        spot("a", 0, 13, 13.5, "axial", x=200.0, y=60.5, location="Anterior Communicating Artery"),
        spot("a", 0, 60, 60.0, "axial"),
        spot("b", 1, 5, -5.0, "sagittal", **POINT, location="Left Middle Cerebral Artery"),
        spot("c", 1, 5, 5.0, "axial"),
    ]
)


def marked(labels: np.ndarray) -> set[str]:
    assert labels.dtype == np.float32 and set(labels.tolist()) <= {0, 1}
    return {name for name, value in zip(LABELS, labels, strict=True) if value}


def test_a_window_has_the_labels_of_the_localizers_within_label_mm_and_aneurysm_present():
    own = localizers_by_series(SPOTS)["a"]
    both = {"Basilar Tip", "Anterior Communicating Artery", "Aneurysm Present"}
    expected = {
        6.9: set(), 7.0: {"Basilar Tip", "Aneurysm Present"}, 10.4: {"Basilar Tip", "Aneurysm Present"},
        10.5: both, 13.0: both, 13.1: both - {"Basilar Tip"}, 16.5: both - {"Basilar Tip"}, 16.6: set(),
    }  # fmt: skip
    assert {mm: marked(own.near(mm, 3.0).labels()) for mm in expected} == expected


def test_what_is_near_keeps_its_own_points_and_locations():
    near = localizers_by_series(SPOTS)["a"].near(15.0, 3.0)
    np.testing.assert_array_equal(near.points, [[200.0, 60.5]])
    assert near.locations.tolist() == [ACOM] and near.position_mm.tolist() == [13.5]
    assert near.points.dtype == np.float32 and near.locations.dtype == np.int64


def test_only_series_with_a_placed_localizer_are_in_the_table_of_localizers():
    assert set(localizers_by_series(SPOTS)) == {"a", "b"}
    assert marked(NONE.near(0.0, 3.0).labels()) == set()


def test_labels_of_a_table_of_windows_are_in_its_order():
    places = SPOTS.iloc[[4, 1, 2, 3, 0]]
    whole = InputConfig(crop=(0, 1, 0, 1), crop_upright=(0, 1, 0, 1))
    truth = label_windows(places, localizers_by_series(SPOTS), 3.0, whole)
    present = "Aneurysm Present"
    assert [marked(row) for row in truth] == [
        set(), {"Anterior Communicating Artery", present}, set(),
        {"Left Middle Cerebral Artery", present}, {"Basilar Tip", present},
    ]  # fmt: skip


def disc(points, locations, size=32, stride=4, pixel_mm=(1.0, 1.0), disc_mm=8.0, rim_mm=16.0) -> np.ndarray:
    points = np.array(points, float).reshape(-1, 2)
    counts = (size // stride,) * 2
    return ball_target(points[:, ::-1], np.array(locations, int), pixel_mm[::-1], counts, stride, disc_mm, rim_mm)


def test_a_localizer_is_a_disc_in_millimetres_with_a_rim_that_is_neither():
    # The point lies in the middle of pixel (column 2, row 1) of the map, whose pixels are 4 mm wide: at a distance of
    # 4 mm its neighbours are just in the disc, at 5.7 and 8 mm they are rim, at 8.9 mm none.
    target, own = disc([[9.5, 5.5]], [BASILAR]), 1 + BASILAR
    expected = np.zeros((8, 8), int)
    expected[0, 1:4] = expected[2, 1:4] = [RIM, own, RIM]
    expected[1, :5] = [RIM, own, own, own, RIM]
    expected[3, 2] = RIM
    np.testing.assert_array_equal(target, expected)
    assert target.dtype == np.uint8


def test_a_disc_is_round_in_the_patient_where_pixels_are_not_square():
    target = disc([[17.5, 17.5]], [0], pixel_mm=(2.0, 1.0))  # columns are 8 mm apart, rows 4 mm
    rows, columns = np.nonzero(target == 1)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(3, 4), (4, 4), (5, 4)]


@pytest.mark.parametrize(
    ("point", "cell"),
    [
        ((8.0, 15.4), (1, 1)),  # the first and last input pixel of a map pixel of 8
        ((7.4, 15.6), (0, 2)),  # just beyond: edges lie at 7.5 and 15.5
        ((-0.4, 31.4), (0, 3)),  # at the very border, still inside
    ],
)
def test_the_pixel_of_a_localizer_is_in_its_disc_however_small_that_is(point, cell):
    target = disc([point], [0], stride=8, disc_mm=0.5, rim_mm=0.5)
    assert np.argwhere(target).tolist() == [[cell[1], cell[0]]]


@pytest.mark.parametrize("point", [(-9, 10), (10, -9), (41, 10), (10, 300)])
def test_a_point_far_outside_the_input_leaves_no_mark(point):
    assert disc([point], [0]).max() == 0


def test_where_two_discs_meet_each_pixel_belongs_to_the_nearer_point():
    target = disc([[9.5, 5.5], [15.5, 5.5]], [2, 7], disc_mm=10.0)
    # Distances of columns 1 to 4 (5.5, 9.5, 13.5, 17.5) from the points: 4 10, 0 6, 4 2, 8 2.
    assert target[1, 1:5].tolist() == [3, 3, 8, 8]


def test_a_window_without_localizers_has_an_empty_map():
    assert disc(NONE.points, NONE.locations, stride=16).tolist() == [[0, 0], [0, 0]]


def test_localizers_of_one_series_may_share_a_slice_and_a_location():
    two = Localizers(np.array([1.0, 1.0]), np.zeros((2, 2), np.float32), np.array([BASILAR, BASILAR]))
    assert marked(two.near(1.0, 0.0).labels()) == {"Basilar Tip", "Aneurysm Present"}
