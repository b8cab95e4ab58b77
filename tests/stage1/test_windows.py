"""Windows: which slices they show, which part of them, and where points of the cache lie in them."""

import cv2
import numpy as np
import pytest

from aneurysm.cache.windows import Box, crop_box, neighbours, read_window
from aneurysm.dicom.mapping import SIZE
from aneurysm.stage1.config import InputConfig
from tests.stage1_cache import dot, one_series
from tests.stage1_samples import centroids

cv2.setNumThreads(1)

UNEVEN_MM = np.array([0, 1, 3, 3.5, 7, 9.5])
WHOLE = Box(0, 0, SIZE, SIZE, SIZE)


@pytest.mark.parametrize(
    ("index", "neighbour_mm", "expected"),
    [
        (2, 2.0, (1, 2, 3)),  # wanted 1 and 5: 3.5 is nearer to 5 than 7 is
        (3, 2.0, (1, 3, 4)),  # wanted 1.5 and 5.5: 1 rather than 3, 7 rather than 3.5
        (3, 3.0, (0, 3, 4)),  # wanted 0.5 and 6.5; 0 and 1 are as near, the first is taken
        (4, 1.0, (3, 4, 5)),  # wanted 6 and 8: the slice itself is nearest, so the next ones
        (0, 2.2, (0, 0, 2)),  # nothing below the first slice
        (5, 2.2, (4, 5, 5)),  # nothing above the last one
        (4, 100.0, (0, 4, 5)),
    ],
)
def test_neighbours_are_the_slices_nearest_in_millimetres_and_never_the_slice_itself(index, neighbour_mm, expected):
    assert neighbours(UNEVEN_MM, index, neighbour_mm) == expected


@pytest.mark.parametrize(
    ("index", "neighbour_mm", "expected"),
    [
        (3, 1.5, (0, 1, 3, 4, 5)),  # wanted 0.5, 2, 5, 6.5: 3.5 is nearest to 5, and 7 to 6.5, but one further each
        (2, 2.5, (0, 0, 2, 4, 5)),  # wanted -2, 0.5, 5.5, 8: 7 is nearest to both of the last
        (0, 3.5, (0, 0, 0, 3, 4)),
    ],
)
def test_further_neighbours_lie_at_multiples_of_the_distance_and_each_a_slice_further(index, neighbour_mm, expected):
    assert neighbours(UNEVEN_MM, index, neighbour_mm, 5) == expected


def test_the_neighbours_of_the_only_slice_are_itself():
    assert neighbours(np.array([4.0]), 0, 2.0) == (0, 0, 0)


def test_points_go_into_the_window_and_back_with_edges_on_edges():
    box = Box(left=72, top=61, width=368, height=358, image_size=448)
    edges = np.array([[71.5, 60.5], [71.5 + 368, 60.5 + 358], [72 + 183.5, 61 + 178.5]])
    np.testing.assert_allclose(box.to_input(edges), [[-0.5, -0.5], [447.5, 447.5], [223.5, 223.5]])
    points = np.random.default_rng(0).uniform(0, 512, (50, 2))
    np.testing.assert_allclose(box.to_cache(box.to_input(points)), points)
    np.testing.assert_allclose(box.to_input(box.to_cache(points)), points)
    assert box.to_input(np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("image_size", [96, 192, 360, 448, 640])
def test_a_dot_of_the_cache_is_seen_where_its_point_goes(tmp_path, image_size):
    places = np.array([[200.25, 150.5], [330.0, 260.75], [131.5, 330.0]])
    cache = one_series(tmp_path, np.stack([dot(x, y, 5) for x, y in places]))
    box = crop_box(InputConfig(image_size=image_size), "axial")
    window = read_window(cache, "s", 1, 1.0, box)
    assert window.shape == (image_size, image_size, 3) and window.dtype == np.float32
    assert window.flags.c_contiguous and window.min() >= 0 and window.max() <= 1
    expected = box.to_input(places)
    np.testing.assert_allclose(centroids(window), expected, atol=0.02)  # channels: below, at and above
    np.testing.assert_allclose(box.to_cache(centroids(window)), places, atol=0.1)


def test_a_window_of_the_whole_slice_at_its_own_size_is_the_cached_slice_itself(tmp_path):
    slices = np.random.default_rng(0).random((4, SIZE, SIZE)).astype(np.float16)
    slices[0, 0, :3] = [0, 1, 6e-8]  # the least float16 above nothing
    window = read_window(one_series(tmp_path, slices), "s", 1, 2.0, WHOLE)
    np.testing.assert_array_equal(window, slices[[0, 1, 3]].transpose(1, 2, 0).astype(np.float32))


def test_where_it_shrinks_a_slice_is_averaged_so_that_no_small_thing_is_stepped_over(tmp_path):
    grid = np.zeros((1, SIZE, SIZE))
    grid[0, ::4, ::4] = 1
    window = read_window(one_series(tmp_path, grid), "s", 0, 1.0, Box(0, 0, SIZE, SIZE, SIZE // 4))
    np.testing.assert_allclose(window, 1 / 16, atol=1e-4)


@pytest.mark.parametrize("image_size", [96, 192, 448, 640])
def test_vessels_keep_their_numbers_and_lie_where_images_show_them(image_size):
    box = Box(72, 61, 368, 358, image_size)
    columns = np.tile(np.arange(SIZE) // 32, (SIZE, 1)).astype(np.uint8)  # a stripe each 32 pixels
    shown = box.resized(columns[box.part], nearest=True)
    assert set(np.unique(shown)) == set(range(2, 14))
    seen_at = box.to_cache(np.column_stack([np.arange(image_size), np.zeros(image_size)]))[:, 0]
    inside = np.abs(seen_at / 32 - np.rint(seen_at / 32)) > 0.51 / 32  # half a pixel off the stripes' edges
    np.testing.assert_array_equal(shown[5][inside], (seen_at // 32)[inside])


def test_the_crop_is_that_of_the_plane_in_whole_pixels():
    config = InputConfig(image_size=96)
    assert crop_box(config, "axial") == Box(72, 61, 369, 358, 96)  # 0.14, 0.12, 0.72 and 0.7 of 512, rounded
    assert crop_box(config, "sagittal") == crop_box(config, "coronal") == Box(51, 102, 410, 410, 96)


def test_a_shift_moves_the_crop_and_stops_at_the_edge_of_the_slice():
    config = InputConfig()
    assert crop_box(config, "axial", (0.04, -0.04)) == Box(92, 41, 369, 358, 448)  # (0.14 + 0.04) * 512 = 92.2
    assert crop_box(config, "sagittal", (0.0, 0.3)).top == 102  # the crop reaches down to the edge already
    for x, y in np.random.default_rng(0).uniform(-0.6, 0.6, (200, 2)):
        for plane in ("axial", "sagittal"):
            box, still = crop_box(config, plane, (x, y)), crop_box(config, plane)
            assert (box.width, box.height) == (still.width, still.height)
            assert 0 <= box.left <= SIZE - box.width and 0 <= box.top <= SIZE - box.height


@pytest.mark.parametrize(
    "crop", [(0.5, 0.5, 0, 1), (0.6, 0.4, 0, 1), (0, 1, 0.9, 0.1), (-0.1, 1, 0, 1), (0, 1, 0, 1.1)]
)
def test_a_crop_that_is_empty_or_leaves_the_image_is_refused(crop):
    with pytest.raises(ValueError, match="crop: expected left < right and top < bottom between 0 and 1"):
        crop_box(InputConfig(crop=crop), "axial")
    with pytest.raises(ValueError, match="crop: expected"):
        crop_box(InputConfig(crop_upright=crop), "coronal")


def test_a_slice_that_does_not_exist_is_an_error(tmp_path):
    cache = one_series(tmp_path, np.zeros((3, SIZE, SIZE)))
    with pytest.raises(IndexError):
        read_window(cache, "s", 3, 1.0, WHOLE)
    with pytest.raises(ValueError, match="other.json: not there"):
        read_window(cache, "other", 0, 1.0, WHOLE)
