"""Stored values -> physical units -> [0, 1]: whatever the scanner or the header does to them, one head, one cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from aneurysm.cache.head import find_head
from aneurysm.cache.slices import cached_slices
from aneurysm.dicom.intensity import Window, mr_window
from aneurysm.dicom.series import read_series
from tests.dicom_writer import CORONAL, voxel_positions, write_enhanced, write_stack

SHAPE, SPACING = (12, 100, 110), (10.0, 2.0, 2.0)
CT_WINDOW = Window(0, 600)


def ct_head() -> np.ndarray:
    """Hounsfield units: noisy air, skin, a skull of 900 HU, brain of 35 HU, bright vessels; (slices, rows, columns)."""
    where = voxel_positions(SHAPE, (-109, -99, -55), (1, 0, 0, 0, 1, 0), SPACING)
    rng = np.random.default_rng(5)
    radius = np.sqrt(((where / np.array((75, 90, 120))) ** 2).sum(-1))
    values = np.where(radius < 1, 50.0, -1000.0)
    values[radius < 0.95] = 900
    values[radius < 0.87] = 35
    values[(radius < 0.8) & (rng.random(SHAPE) < 0.02)] = 350
    return np.round(values + rng.normal(0, 12, SHAPE)).astype(np.int16)


def mr_head() -> np.ndarray:
    values = ct_head().astype(float)
    return np.select([values > 600, values > 200, values > -500], [120, 1500, 400], 12) + np.round(values % 7)


def cache_of(folder: Path, window: Window | None = None) -> np.ndarray:
    """(slices, 512, 512) as preprocessing would cache them."""
    series = read_series(folder, select=())
    found = find_head(series, CT_WINDOW, head_mm=0)
    assert not any("no head found" in warning for warning in series.warnings)
    return np.stack([image.copy() for image in cached_slices(series, window or found, range(series.crop.count))])


@pytest.fixture(scope="module")
def ct_reference(tmp_path_factory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("reference")
    write_stack(folder, ct_head(), spacing=SPACING, RescaleSlope=1, RescaleIntercept=0)
    return cache_of(folder)


def with_circle_padding(stored: np.ndarray, value: int) -> np.ndarray:
    """Stored values with `value` outside the round field of view, as GE writes it."""
    r, c = np.mgrid[: SHAPE[1], : SHAPE[2]]
    outside = (r - 49.5) ** 2 + (c - 54.5) ** 2 > 60**2
    return np.where(outside, np.int16(value), stored)


@pytest.mark.parametrize(
    ("added", "tags"),
    [
        (0, {"RescaleSlope": 1, "RescaleIntercept": 0}),
        (1024, {"RescaleSlope": 1, "RescaleIntercept": -1024}),
        (8192, {"RescaleSlope": 1, "RescaleIntercept": -8192}),
        (0, {}),
        (1024, {}),  # the intercept was lost
        (8192, {}),
        (0, {"RescaleSlope": 1, "RescaleIntercept": -1024}),  # Hounsfield units under a header that lies
        (8192, {"RescaleSlope": 1, "RescaleIntercept": -1024}),
        (1024, {"RescaleSlope": 1, "RescaleIntercept": 0}),
    ],
)
@pytest.mark.parametrize("padding", [None, -2000])
def test_ct_gives_one_cache_however_its_hounsfield_units_are_stored(tmp_path, ct_reference, added, tags, padding):
    stored = ct_head() + np.int16(added)
    if padding is not None:
        stored = with_circle_padding(stored, padding)
    write_stack(tmp_path, stored, spacing=SPACING, **tags)
    np.testing.assert_allclose(cache_of(tmp_path), ct_reference, atol=0.002)
    pixels = read_series(tmp_path).pixels
    centre = np.s_[:, 30:70, 30:70]
    np.testing.assert_array_equal(pixels[centre], ct_head()[centre])


def test_unsigned_ct_with_a_slope_gives_the_same_hounsfield_units(tmp_path):
    head = np.maximum(ct_head(), -1024)
    head -= head % 2
    stored = ((head.astype(int) + 1024) // 2).astype(np.uint16)
    write_stack(tmp_path, stored, spacing=SPACING, RescaleSlope=2, RescaleIntercept=-1024)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, head)


def test_a_lying_header_is_said_and_a_true_one_is_not(tmp_path):
    write_stack(tmp_path / "lies", ct_head(), spacing=SPACING, RescaleSlope=1, RescaleIntercept=-1024)
    write_stack(tmp_path / "true", ct_head() + 1024, spacing=SPACING, RescaleSlope=1, RescaleIntercept=-1024)
    lies, true = read_series(tmp_path / "lies"), read_series(tmp_path / "true")
    assert lies.shift_hu == 1024 and any("Hounsfield" in warning for warning in lies.warnings)
    assert true.shift_hu == 0 and true.warnings == []


@pytest.mark.parametrize("tags", [{}, {"RescaleSlope": 1, "RescaleIntercept": 0}])
def test_a_true_header_is_believed_when_all_air_has_one_value(tmp_path, tags):
    """Defaced, denoised or clipped series have no noise in the air; then bone must not be taken for soft tissue."""
    head = np.maximum(ct_head(), -600)
    head[head == -600] = -1000
    head[:, 40:60, 40:60] += np.random.default_rng(0).integers(0, 1100, (12, 20, 20)).astype(np.int16)
    write_stack(tmp_path, head, spacing=SPACING, **tags)
    series = read_series(tmp_path)
    assert series.shift_hu == 0
    np.testing.assert_array_equal(series.pixels, head)


@pytest.mark.parametrize("tags", [{}, {"RescaleSlope": 1, "RescaleIntercept": -1024}])
def test_a_true_header_is_believed_when_only_slices_without_air_are_read(tmp_path, tags):
    added = 1024 if tags else 0
    head = ct_head()[:, 25:75, 35:75]  # brain and bone
    head[:, :6] = np.random.default_rng(0).integers(200, 1500, head[:, :6].shape)
    write_stack(tmp_path, head + np.int16(added), spacing=SPACING, **tags)
    assert read_series(tmp_path).shift_hu == 0


@pytest.mark.parametrize("gain", [1, 7])
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_mr_gives_one_cache_whatever_gain_and_offset_the_scanner_had(tmp_path, gain, offset, dtype):
    stored = mr_head()
    write_stack(tmp_path / "a", stored.astype(np.int16), spacing=SPACING, Modality="MR")
    write_stack(tmp_path / "b", (stored * gain + offset).astype(dtype), spacing=SPACING, Modality="MR")
    np.testing.assert_allclose(cache_of(tmp_path / "b"), cache_of(tmp_path / "a"), atol=0.01)


@pytest.mark.parametrize("enhanced", [False, True])
def test_mr_slices_with_a_slope_each_give_the_same_cache(tmp_path, enhanced):
    stored = mr_head()
    slopes = 1 + np.arange(12) % 4
    scaled = np.round(stored / slopes[:, None, None] * 8).astype(np.int16)
    write_stack(tmp_path / "a", stored.astype(np.int16), spacing=SPACING, Modality="MR")
    if enhanced:
        (tmp_path / "b").mkdir()
        write_enhanced(tmp_path / "b" / "x.dcm", scaled, spacing=SPACING, rescale=lambda i: (float(slopes[i]) / 8, 0.0))
    else:
        write_stack(
            tmp_path / "b",
            scaled,
            spacing=SPACING,
            each=lambda i: {"RescaleSlope": float(slopes[i]) / 8, "RescaleIntercept": 0},
            Modality="MR",
        )
    np.testing.assert_allclose(read_series(tmp_path / "b").pixels, stored, atol=0.3)
    np.testing.assert_allclose(cache_of(tmp_path / "b"), cache_of(tmp_path / "a"), atol=0.01)


def test_mr_slices_with_a_slope_each_are_scaled_when_resliced_too(tmp_path):
    stored = np.full((4, 6, 8), 10, np.int16)
    write_stack(
        tmp_path,
        stored,
        CORONAL,
        (1.0, 1, 1),
        each=lambda i: {"RescaleSlope": i + 0.5, "RescaleIntercept": i},
        Modality="MR",
    )
    assert read_series(tmp_path).pixels[2, :, 3].tolist() == [5.0, 16.0, 27.0, 38.0]


def test_monochrome1_mr_is_turned_back(tmp_path):
    stored = mr_head()
    write_stack(tmp_path / "a", stored.astype(np.int16), spacing=SPACING, Modality="MR")
    inverted = (4095 - stored).astype(np.int16)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "MR"}
    write_stack(tmp_path / "b", inverted, spacing=SPACING, **tags)
    np.testing.assert_allclose(cache_of(tmp_path / "b"), cache_of(tmp_path / "a"), atol=0.01)


def test_monochrome1_ct_keeps_its_hounsfield_units(tmp_path):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 1, "RescaleIntercept": -1024}
    write_stack(tmp_path, ct_head() + 1024, spacing=SPACING, **tags)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, ct_head())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize(("dtype", "padding"), [(np.int16, -2000), (np.uint16, 63536), (np.int32, -2000)])
def test_pixels_with_the_padding_value_become_the_darkest_real_value(tmp_path, syntax, dtype, padding):
    if dtype is np.int32 and syntax == RLELossless:
        pytest.skip("RLE is not written for 32 bits")
    volume = np.arange(5, 5 + 2 * 20 * 30).reshape(2, 20, 30).astype(dtype)
    volume[:, 3] = padding
    write_stack(tmp_path, volume, syntax=syntax, Modality="MR", PixelPaddingValue=padding)
    pixels = read_series(tmp_path).pixels
    assert (pixels[0, 3] == 5).all() and (pixels[1, 3] == 605).all()
    np.testing.assert_array_equal(np.delete(pixels, 3, axis=1), np.delete(volume, 3, axis=1))


def test_a_padding_range_counts_from_value_to_limit(tmp_path):
    volume = np.arange(-10, 590).reshape(1, 20, 30).astype(np.int16)
    write_stack(tmp_path, volume, Modality="MR", PixelPaddingValue=-3, PixelPaddingRangeLimit=-10)
    assert np.sort(read_series(tmp_path).pixels.ravel())[:10].tolist() == [-2.0] * 9 + [-1.0]


def test_padding_of_a_monochrome1_mr_is_dark_too(tmp_path):
    volume = np.arange(100, 700).reshape(1, 20, 30).astype(np.int16)
    volume[:, 0] = 0
    tags = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "MR", "PixelPaddingValue": 0}
    write_stack(tmp_path, volume, **tags)
    pixels = read_series(tmp_path).pixels
    assert (pixels[0, 0] == pixels[0, 1:].min()).all()


@pytest.mark.parametrize("slope", [None, "0", "1e-300", "1e300"])
def test_a_slope_that_is_missing_or_cannot_be_counts_as_one(tmp_path, slope):
    write_stack(tmp_path, np.full((2, 4, 4), 7, np.int16), Modality="MR", RescaleSlope=slope, RescaleIntercept=3)
    assert (read_series(tmp_path).pixels == 10).all()


def test_a_ct_window_maps_its_ends_to_0_and_1_and_clips(tmp_path):
    values = np.array([-1000, 0, 150, 300, 600, 2000], np.int16)
    image = np.repeat(np.repeat(values[:, None], 512, 1), 86, 0)[:512]
    write_stack(tmp_path, (image + 1024)[None], RescaleSlope=1, RescaleIntercept=-1024)
    series = read_series(tmp_path, select=())
    cached = next(cached_slices(series, CT_WINDOW, [0]))
    assert cached.dtype == np.float16
    np.testing.assert_allclose(cached[40::86, 100][:6], [0, 0, 0.25, 0.5, 1, 1], atol=5e-4)


def test_padding_to_a_square_is_black(tmp_path):
    write_stack(tmp_path, np.full((1, 100, 300), 1324, np.int16), RescaleSlope=1, RescaleIntercept=-1024)
    series = read_series(tmp_path, select=())
    cached = next(cached_slices(series, CT_WINDOW, [0]))
    assert cached[:165].max() == 0 and cached[347:].max() == 0
    np.testing.assert_allclose(cached[180:330], 0.5, atol=5e-4)


def test_the_mr_window_reaches_from_the_darkest_to_the_brightest_of_the_head():
    values = np.arange(1000.0)
    head = values >= 500
    window = mr_window(values, head)
    # linear percentiles by hand: 0.5 % of 0..999 and 99.9 % of 500..999
    assert window.low == pytest.approx(0.005 * 999)
    assert window.high == pytest.approx(500 + 0.999 * 499)
    flat = mr_window(np.full(10, 3.0), np.zeros(10, bool))
    assert (flat.low, flat.high) == (3.0, 4.0)
