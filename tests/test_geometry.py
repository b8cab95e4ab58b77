"""Where pixels lie in the patient: against SimpleITK, by round trips, and by a bright spot at a known place."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from aneurysm.data.cache import Cache
from aneurysm.data.head import find_head
from aneurysm.data.intensity import Window
from aneurysm.data.mapping import SIZE, Crop
from aneurysm.data.preprocess import CacheSettings, preprocess_series
from aneurysm.data.series import Series, read_series
from aneurysm.data.slices import cached_slices
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, voxel_positions, write_enhanced, write_stack

TILT_GAP = Path(__file__).parents[2] / "shared" / "dicom" / "ct_tilt_gap"


def turned_by(orientation: tuple, degrees: tuple[float, float, float]) -> tuple:
    """The orientation after turns around the patient's three axes."""
    x, y, z = np.radians(degrees)
    around_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    around_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    around_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    turn = around_z @ around_y @ around_x
    return (*(turn @ orientation[:3]), *(turn @ orientation[3:]))


def flips(orientation: tuple) -> list[tuple]:
    """The orientation with rows, columns, both and neither reversed, and turned by 90 degrees."""
    a, b = np.array(orientation[:3]), np.array(orientation[3:])
    found = [(*(s * a), *(t * b)) for s, t in product((1, -1), repeat=2)]
    return [*found, (*-b, *a)]


SPACINGS = {"thick": (4.0, 0.9, 0.6), "thin": (1.2, 0.8, 1.1)}  # between slices, rows, columns: thin is re-sliced
SHAPES = {"thick": (12, 70, 110), "thin": (44, 70, 50)}
CASES = [
    pytest.param((orientation, kind), id=f"{name}{i}-{kind}")
    for name, plane in (
        ("axial", AXIAL),
        ("coronal", CORONAL),
        ("sagittal", SAGITTAL),
        ("oblique-axial", turned_by(AXIAL, (18, -9, 6))),
        ("oblique-coronal", turned_by(CORONAL, (-14, 7, 11))),
        ("oblique-sagittal", turned_by(SAGITTAL, (8, 12, -16))),
    )
    for kind in ("thick", "thin")
    for i, orientation in enumerate(flips(plane) if "oblique" not in name else [plane])
]


def centred(orientation: tuple, kind: str) -> tuple:
    """Position of the first voxel that puts the middle of the volume at (0, 0, 0)."""
    corners = voxel_positions(
        (2, 2, 2), (0, 0, 0), orientation, np.array(SPACINGS[kind]) * (np.array(SHAPES[kind]) - 1)
    )
    return tuple(-corners[1, 1, 1] / 2)


def write_spot(folder: Path, orientation: tuple, kind: str, centre: tuple, sigma_mm: float = 3.0) -> list[str]:
    """A stack around (0, 0, 0) with a round bright spot at `centre` (LPS, mm); returns the SOP UIDs."""
    first = centred(orientation, kind)
    where = voxel_positions(SHAPES[kind], first, orientation, SPACINGS[kind])
    distance2 = ((where - np.array(centre)) ** 2).sum(-1)
    volume = np.round(10000 * np.exp(-distance2 / (2 * sigma_mm**2))).astype(np.int16)
    return write_stack(folder, volume, orientation, SPACINGS[kind], first, Modality="MR")


@dataclass(frozen=True)
class Stack:
    folder: Path
    orientation: tuple
    kind: str
    uids: list[str]


SPOT = (9.0, -12.0, 8.0)  # left, front, up


@pytest.fixture(scope="module", params=CASES)
def stack(request, tmp_path_factory) -> Stack:
    """A stack on disk in each of the orientations, with a spot at SPOT."""
    folder = tmp_path_factory.mktemp("stack")
    return Stack(folder, *request.param, write_spot(folder, *request.param, SPOT))


def centroid(image: np.ndarray) -> np.ndarray:
    """Centre of mass, one number an axis."""
    axes = range(image.ndim)
    sums = [image.sum(axis=tuple(a for a in axes if a != axis), dtype=np.float64) for axis in axes]
    return np.array([along @ np.arange(len(along)) / along.sum() for along in sums])


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


def test_a_spot_on_the_left_in_front_and_above_is_seen_there(stack):
    series = read_series(stack.folder)
    found = centroid(series.pixels)
    side = np.sign(found - (np.array(series.pixels.shape) - 1) / 2).astype(int).tolist()
    # slice, row, column of the canonical orientation: see geometry
    expected = {"axial": [1, -1, 1], "coronal": [-1, -1, 1], "sagittal": [1, -1, -1]}
    assert side == expected[series.geometry.plane]
    assert series.geometry.plane == "axial" or stack.kind == "thick"


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
