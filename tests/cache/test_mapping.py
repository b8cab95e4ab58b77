"""The way of a point into the cache and back: by round trips, and by a bright spot at a known place."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from aneurysm.cache.cache import Cache
from aneurysm.cache.head import find_head
from aneurysm.cache.preprocess import CacheSettings, preprocess_series
from aneurysm.cache.slices import cached_slices
from aneurysm.dicom.intensity import Window
from aneurysm.dicom.mapping import SIZE, Crop
from aneurysm.dicom.series import Series, read_series
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, voxel_positions, write_stack
from tests.oriented_stacks import (
    CASES,
    SHAPES,
    SPACINGS,
    SPOT,
    Stack,
    centred,
    centroid,
    turned_by,
    write_case,
    write_spot,
)


@pytest.fixture(scope="module", params=CASES)
def stack(request, tmp_path_factory) -> Stack:
    """A stack on disk in each of the orientations, with a spot at SPOT."""
    return write_case(tmp_path_factory.mktemp("stack"), *request.param)


def crops(series: Series) -> list[Crop]:
    """The whole image, a part of it, and a square that reaches beyond it on all sides."""
    slices, rows, cols = series.geometry.canonical_shape
    part = Crop(slices // 8, slices * 3 // 4, rows // 6, rows * 2 // 3, cols // 8, cols * 3 // 4)
    return [series.crop, part, Crop(0, slices, -13, rows + 31, -7, cols + 9)]


def test_the_way_into_the_cache_and_back_is_exact(stack):
    uids = stack.uids
    series = read_series(stack.folder, select=())
    n_slices, n_rows, n_cols = SHAPES[stack.kind]
    rng = np.random.default_rng(2)
    for crop in crops(series):
        series.crop = crop
        placed = 0
        for _ in range(60):
            x, y = rng.uniform(-0.5, n_cols - 0.5), rng.uniform(-0.5, n_rows - 0.5)
            uid = uids[rng.integers(n_slices)]
            try:
                point = series.to_cache(x, y, uid)
            except ValueError:
                continue
            placed += 1
            *back, found_uid, frame = series.to_original(*point)
            np.testing.assert_allclose(back, (x, y), atol=1e-6)
            assert (found_uid, frame) == (uid, 0)
            np.testing.assert_allclose(series.to_cache(*back, found_uid, frame), point, atol=1e-6)
        crop_share = series.crop.count * series.crop.height * series.crop.width / np.prod(SHAPES[stack.kind])
        assert placed >= 60 * min(crop_share, 1) * 0.5


@pytest.mark.parametrize("kind", ["thick", "thin"])
@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
def test_the_very_edges_of_the_images_have_a_place_in_the_cache_and_back(tmp_path, plane, kind):
    uids = write_spot(tmp_path, plane, kind, (0, 0, 0))
    series = read_series(tmp_path, select=())
    n_slices, n_rows, n_cols = SHAPES[kind]
    edges = product((-0.5, 0.0, n_cols - 1.0, n_cols - 0.5), (-0.5, 0.0, n_rows - 1.0, n_rows - 0.5), (0, n_slices - 1))
    for x, y, k in edges:
        *back, uid, _ = series.to_original(*series.to_cache(x, y, uids[k]))
        np.testing.assert_allclose(back, (x, y), atol=1e-6)
        assert uid == uids[k]


def test_points_outside_the_image_the_crop_and_the_series_are_refused(tmp_path):
    uids = write_spot(tmp_path, AXIAL, "thick", (0, 0, 0))
    series = read_series(tmp_path, select=())
    for x, y in ((-0.6, 3), (109.6, 3), (3, -1), (3, 70)):
        with pytest.raises(ValueError, match="outside the image"):
            series.to_cache(x, y, uids[0])
    with pytest.raises(ValueError, match="no image 1.2.3"):
        series.to_cache(1, 1, "1.2.3")
    with pytest.raises(ValueError, match="no frame 7"):
        series.to_cache(1, 1, uids[0], 7)
    series.crop = Crop(2, 5, 10, 20, 10, 20)
    for point in ((15, 9, uids[3]), (30, 15, uids[3]), (15, 15, uids[1]), (15, 15, uids[7])):
        with pytest.raises(ValueError, match="outside the cached part"):
            series.to_cache(*point)
    assert series.to_cache(15, 15, uids[3])[2] == 1


def test_cached_padding_beyond_the_images_has_no_original_pixel(tmp_path):
    write_spot(tmp_path, AXIAL, "thick", (0, 0, 0))
    series = read_series(tmp_path, select=())
    series.crop = Crop(0, 12, -70, 210, -110, 330)
    assert series.to_original(SIZE / 2, SIZE / 2, 3)[2]
    for x, y in ((10, 256), (256, 10), (500, 256), (256, 500)):
        with pytest.raises(ValueError, match="outside"):
            series.to_original(x, y, 3)
    with pytest.raises(ValueError, match="outside"):
        series.to_original(256, 256, 12)


def test_a_spot_lies_in_the_cached_slices_where_to_cache_says(stack):
    series = read_series(stack.folder, select=())
    # the slice whose plane is nearest to the centre of the spot, and the point of that plane nearest to it
    offset = np.array(SPOT) - np.array(centred(stack.orientation, stack.kind))
    along_row, along_column = np.array(stack.orientation[:3]), np.array(stack.orientation[3:])
    k = offset @ np.cross(along_row, along_column) / SPACINGS[stack.kind][0]
    x, y = offset @ along_row / SPACINGS[stack.kind][2], offset @ along_column / SPACINGS[stack.kind][1]
    series.crop = Crop(0, series.n_slices, -3, series.crop.height + 5, 2, series.crop.width)
    expected = np.array(series.to_cache(x, y, stack.uids[round(k)]))
    if series.geometry.resliced:  # the source slice is a cached row or column: take the exact place along it
        step = np.array(series.to_cache(x, y, stack.uids[round(k) + 1])) - expected
        expected = expected + step * (k - round(k))
    reach = int(13 / series.geometry.canonical_spacing[0]) + 1  # slices that hold the spot
    indices = range(max(0, round(expected[2]) - reach), min(series.crop.count, round(expected[2]) + reach + 1))
    cached = np.stack([image.copy() for image in cached_slices(series, Window(0, 10000), indices)])
    slice_found, y_found, x_found = centroid(cached)
    np.testing.assert_allclose((x_found, y_found), expected[:2], atol=0.6)
    # the nearest source slice may lie half a slice off the spot
    assert abs(slice_found + indices[0] - expected[2]) < (0.1 if series.geometry.resliced else 0.6)


@pytest.mark.parametrize(("rows", "cols"), [(700, 300), (300, 700), (700, 900), (200, 300)])
def test_a_spot_keeps_its_place_when_one_side_shrinks_and_the_other_grows(tmp_path, rows, cols):
    r, c = np.mgrid[:rows, :cols]
    y, x = rows * 0.371, cols * 0.643
    image = 10000 * np.exp(-(((r - y) / (rows / 40)) ** 2) - ((c - x) / (cols / 40)) ** 2)
    uids = write_stack(tmp_path, image.astype(np.int16)[None], Modality="MR")
    series = read_series(tmp_path, select=())
    series.crop = Crop(0, 1, 0, rows, 0, cols)
    y_found, x_found = centroid(next(cached_slices(series, Window(0, 10000), [0])))
    np.testing.assert_allclose((x_found, y_found), series.to_cache(x, y, uids[0])[:2], atol=0.1)


def test_fine_lines_are_averaged_where_only_one_side_shrinks(tmp_path):
    stripes = np.zeros((1, 2048, 300), np.int16)
    stripes[:, 2::4] = 4000  # every fourth row bright: a quarter of the light everywhere
    write_stack(tmp_path, stripes, Modality="MR")
    series = read_series(tmp_path, select=())
    series.crop = Crop(0, 1, 0, 2048, 0, 300)
    image = next(cached_slices(series, Window(0, 4000), [0]))
    np.testing.assert_allclose(image, 0.25, atol=0.01)


def head_phantom(shape: tuple, where: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    """Hounsfield units of an ellipsoid of soft tissue in air, with a small bright ball for an aneurysm."""
    head = (((where - np.array(centre)) / np.array(radii)) ** 2).sum(-1) < 1
    ball = ((where - np.array(centre) - np.array((20, -25, 15))) ** 2).sum(-1)
    noise = np.random.default_rng(3).normal(0, 15, shape)
    return np.where(head, 40.0, -1000.0) + noise + 500 * np.exp(-ball / (2 * 4.0**2))


@pytest.mark.parametrize(
    ("orientation", "spacing", "shape"),
    [
        (AXIAL, (5.0, 2.0, 2.0), (44, 120, 125)),
        ((-1, 0, 0, 0, -1, 0), (5.0, 2.4, 1.8), (44, 100, 130)),
        (CORONAL, (1.9, 2.0, 2.0), (112, 125, 120)),
        (SAGITTAL, (6.0, 2.4, 1.8), (32, 100, 130)),
        (turned_by(AXIAL, (12, 5, -8)), (4.0, 2.0, 2.0), (56, 120, 125)),
    ],
)
def test_find_head_keeps_the_spot_and_its_place(tmp_path, orientation, spacing, shape):
    corner = voxel_positions((2, 2, 2), (0, 0, 0), orientation, np.array(spacing) * (np.array(shape) - 1))[1, 1, 1]
    first = tuple(-corner / 2)
    where = voxel_positions(shape, first, orientation, spacing)
    volume = head_phantom(shape, where, (5, 3, -4), (70, 88, 80))
    folder = tmp_path / "series" / "1.2.826"
    uids = write_stack(folder, np.round(volume).astype(np.int16), orientation, spacing, first)
    series = read_series(folder, select=())
    whole = series.crop
    find_head(series, Window(0, 600), head_mm=130)
    assert series.crop != whole and series.warnings == []
    offset = np.array((5, 3, -4)) + np.array((20, -25, 15)) - np.array(first)
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    k = round(offset @ np.cross(along_row, along_column) / spacing[0])
    x, y = offset @ along_row / spacing[2], offset @ along_column / spacing[1]
    point = series.to_cache(x, y, uids[k])
    np.testing.assert_allclose(series.to_original(*point)[:2], (x, y), atol=1e-6)
    assert series.to_original(*point)[2] == uids[k]
    settings = CacheSettings(head_mm=130, window_low_hu=100)
    assert preprocess_series(tmp_path, "1.2.826", settings, slices=False).kind == ""
    cache = Cache(tmp_path)
    assert cache.mapping("1.2.826").to_cache(x, y, uids[k]) == pytest.approx(point)
    image = cache.window("1.2.826", [round(point[2])])[0].astype(np.float32)
    y_found, x_found = centroid(np.where(image > 0.2, image, 0))
    np.testing.assert_allclose((x_found, y_found), point[:2], atol=2.5)  # a ball of 4 mm, cut off the slice's plane
    if series.geometry.plane == "axial":  # at least the top 130 mm of the head, at most one looked-at slice more
        position_mm = cache.position_mm("1.2.826")
        between_looks_mm = np.ptp(series.geometry.slice_positions_mm()) / 23
        assert 130 - between_looks_mm <= np.ptp(position_mm) <= 130 + 2 * between_looks_mm
