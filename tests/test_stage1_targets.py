"""What a window should be answered with: labels by the distance along the slice axis, heatmaps by the place."""

import math

import numpy as np
import pytest

from aneurysm.data.marks import NONE, Localizers, localizers_by_series
from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.stage1.config import InputConfig
from aneurysm.stage1.dataset import label_windows
from aneurysm.stage1.targets import heat_target
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


def test_the_heatmap_of_a_point_is_1_at_the_nearest_pixel_and_falls_off_as_a_gaussian():
    # Heatmap pixel (column 1, row 0) covers input pixels 8 to 15 and 0 to 7, its middle is (11.5, 3.5).
    target = heat_target(np.array([[11.5, 3.5]]), np.array([BASILAR]), image_size=32, stride=8, sigma=1.0)
    assert target.shape == (13, 4, 4) and target.dtype == np.float32
    near, corner, two, far = (math.exp(-squared / 2) for squared in (1, 2, 4, 8))
    expected = [
        [near, 1, near, two],
        [corner, near, corner, math.exp(-5 / 2)],
        [math.exp(-5 / 2), two, math.exp(-5 / 2), far],
    ]
    np.testing.assert_allclose(target[BASILAR, :3], expected, rtol=1e-6)
    assert target[np.arange(13) != BASILAR].max() == 0


@pytest.mark.parametrize(
    ("point", "cell"),
    [
        ((8.0, 15.4), (1, 1)),  # the first and last input pixel of a heatmap pixel
        ((7.4, 15.6), (0, 2)),  # just beyond: edges lie at 7.5 and 15.5
        ((-0.4, 31.4), (0, 3)),  # at the very border, still inside
    ],
)
def test_the_peak_is_exactly_1_wherever_in_the_pixel_the_point_lies(point, cell):
    target = heat_target(np.array([point]), np.array([0]), image_size=32, stride=8, sigma=1.5)[0]
    assert np.argwhere(target == 1).tolist() == [[cell[1], cell[0]]]
    assert target[cell[1], abs(cell[0] - 1)] == pytest.approx(math.exp(-1 / (2 * 1.5**2)))


@pytest.mark.parametrize("point", [(-0.6, 10), (10, -4), (31.6, 10), (10, 300)])
def test_a_point_outside_the_input_leaves_no_mark(point):
    target = heat_target(np.array([point]), np.array([0]), image_size=32, stride=8, sigma=1.0)
    assert target.max() == 0


def test_two_points_of_one_location_are_two_peaks_and_each_pixel_belongs_to_the_nearer():
    points = np.array([[3.5, 3.5], [27.5, 3.5], [3.5, 27.5]])
    target = heat_target(points, np.array([2, 2, 7]), image_size=32, stride=8, sigma=1.0)
    first, middle = target[2, 0], math.exp(-1 / 2)
    np.testing.assert_allclose(first, [1, middle, middle, 1], rtol=1e-6)
    assert np.argwhere(target == 1).tolist() == [[2, 0, 0], [2, 0, 3], [7, 3, 0]]


def test_a_window_without_localizers_has_empty_heatmaps():
    assert heat_target(NONE.points, NONE.locations, image_size=32, stride=16, sigma=1.0).shape == (13, 2, 2)
    assert not heat_target(NONE.points, NONE.locations, image_size=32, stride=16, sigma=1.0).any()


def test_localizers_of_one_series_may_share_a_slice_and_a_location():
    two = Localizers(np.array([1.0, 1.0]), np.zeros((2, 2), np.float32), np.array([BASILAR, BASILAR]))
    assert marked(two.near(1.0, 0.0).labels()) == {"Basilar Tip", "Aneurysm Present"}
