"""A table of CTs, each with the right and each wrong header: read right, or as the header says with a doubt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut

from aneurysm.dicom.hounsfield import hounsfield_shift
from aneurysm.dicom.series import read_series
from tests.dicom_writer import warned, write_stack

SHAPE = (6, 96, 96)
ROW, COLUMN = np.mgrid[: SHAPE[1], : SHAPE[2]]
RADIUS = np.hypot((ROW - 48) / 40, (COLUMN - 46) / 33)
BRAIN, SKULL = RADIUS < 0.86, (RADIUS >= 0.86) & (RADIUS < 0.97)
CIRCLE = np.hypot(ROW - 47.5, COLUMN - 47.5) > 48  # outside the round field of view


def head(noise_hu: float = 12.0, air: float = -1000.0, brain: float = 35.0) -> np.ndarray:
    """(slices, rows, columns) HU: air, skin, a skull of 1000 HU, brain, vessels and a sinus."""
    rng = np.random.default_rng(3)
    image = np.select([BRAIN, SKULL, RADIUS < 1], [brain, 1000.0, 40.0], air)
    image[38:42, 40:44] = 350
    image[70:76, 40:52] = air
    return np.round(image + rng.normal(0, noise_hu, SHAPE) * (noise_hu > 0))


def with_air(value: float) -> Callable[[], np.ndarray]:
    return lambda: np.where(head() < -600, value, head())


def padded(value: float) -> Callable[[], np.ndarray]:
    return lambda: np.where(CIRCLE, value, head())


def metal() -> np.ndarray:
    image = head()
    image[:, 60:64, 30:34] = 3071
    image[:, 60:64, 34:80:3] = -900
    return image


def cropped() -> np.ndarray:
    return head()[:, 16:80, 22:70]


# Name: the picture in HU, and whether it has to be right under the wrong headers as well (else a doubt will do).
PICTURES = {
    "noise 12": (head, True),
    "noise 0": (lambda: head(0), True),
    "noise 40": (lambda: head(40), True),
    "air clipped at -1000": (lambda: np.maximum(head(), -1000), True),
    "air all -1000": (with_air(-1000), True),
    "air all -1024": (with_air(-1024), True),
    "defaced": (lambda: np.where(ROW > 60, -1000, head()), True),
    "defaced with 0": (lambda: np.where(ROW > 60, 0, head()), True),
    "skull-stripped": (lambda: np.where(BRAIN, head(), -1000), True),
    "skull-stripped with 0": (lambda: np.where(BRAIN, head(), 0), True),
    "skull-stripped, noise 0": (lambda: np.where(BRAIN, head(0), -1024), True),
    "cropped to the head": (cropped, True),
    "cropped to the head, noise 0": (lambda: np.where(head(0) < -600, 35, head(0))[:, 16:80, 22:70], False),
    "cropped to the brain": (lambda: head()[:, 25:75, 30:62], True),
    "metal": (metal, True),
    "bone window": (lambda: head().clip(-500, 1300), True),
    "soft window": (lambda: head().clip(-160, 240), False),
    "filled with contrast": (lambda: head(brain=300), False),
    "padding -2000": (padded(-2000), True),
    "padding -1500": (padded(-1500), True),
    "padding 0": (padded(0), True),
    "padding 3000": (padded(3000), False),
}
HEADERS = {  # what is added to HU before storing, the tags, whether these are right
    "HU": (0, {"RescaleSlope": 1, "RescaleIntercept": 0}, True),
    "HU, no tags": (0, {}, True),
    "HU + 1024": (1024, {"RescaleSlope": 1, "RescaleIntercept": -1024}, True),
    "HU + 8192": (8192, {"RescaleSlope": 1, "RescaleIntercept": -8192}, True),
    "HU + 1000": (1000, {"RescaleSlope": 1, "RescaleIntercept": -1000}, True),
    "half HU": (0, {"RescaleSlope": 2, "RescaleIntercept": -1024}, True),
    "HU under -1024": (0, {"RescaleSlope": 1, "RescaleIntercept": -1024}, False),
    "HU + 1024 under 0": (1024, {"RescaleSlope": 1, "RescaleIntercept": 0}, False),
    "HU + 1024, no tags": (1024, {}, False),
    "HU + 8192 under 0": (8192, {"RescaleSlope": 1, "RescaleIntercept": 0}, False),
    "HU + 8192 under -1024": (8192, {"RescaleSlope": 1, "RescaleIntercept": -1024}, False),
    "HU + 500 under 0": (500, {"RescaleSlope": 1, "RescaleIntercept": 0}, False),
}


def stored_by(header: str, image: np.ndarray) -> np.ndarray:
    added, tags, _ = HEADERS[header]
    return np.round((image + 1024) / 2) if header == "half HU" else image + added


@pytest.mark.parametrize("header", HEADERS)
def test_a_right_header_always_wins_and_a_wrong_one_is_corrected_or_doubted(header):
    _, tags, right = HEADERS[header]
    slope, intercept = tags.get("RescaleSlope", 1.0), tags.get("RescaleIntercept", 0.0)
    for picture, (make, clear) in PICTURES.items():
        image = make()
        by_header = stored_by(header, image) * slope + intercept
        shift, doubt = hounsfield_shift(by_header[:, ::2, ::2].astype(np.float32), slope, intercept)
        if right:
            assert shift == 0, picture
            assert not (clear and doubt), (picture, doubt)
            continue
        is_right = abs(np.median(by_header + shift - image)) < 1
        assert is_right or (shift == 0 and doubt), picture
        assert is_right or not clear or header == "HU + 500 under 0", picture


STORAGES = {
    "signed": (np.int16, {}),
    "unsigned, air clipped at stored 0": (np.uint16, {}),
    "marked unsigned": (np.int16, {"PixelRepresentation": 0}),
    "marked signed": (np.uint16, {"PixelRepresentation": 1}),
    "12 bits": (np.uint16, {"BitsStored": 12, "HighBit": 11}),
    "12 bits signed": (np.int16, {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}),
    "12 bits wrapped": (np.int16, {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}),
    "padding -2000 marked unsigned": (np.int16, {"PixelRepresentation": 0}),
    "padding 63536 said": (np.uint16, {"PixelPaddingValue": 63536}),
    "padding -2000 said": (np.int16, {"PixelPaddingValue": -2000}),
}


@pytest.mark.parametrize("header", ["HU", "HU + 1024", "HU under -1024", "HU + 1024 under 0", "HU + 8192 under 0"])
@pytest.mark.parametrize("storage", STORAGES)
def test_however_the_bits_are_marked_the_brain_has_its_values_or_there_is_a_doubt(tmp_path, storage, header):
    dtype, marks = STORAGES[storage]
    stored = stored_by(header, head())
    if "padding" in storage:
        stored = np.where(CIRCLE, -2000, np.maximum(stored, 0 if header.startswith("HU + ") else -1024))
    if dtype is np.uint16:
        stored = np.where(stored == -2000, 63536, np.maximum(stored, 0))
    tags = HEADERS[header][1]
    write_stack(
        tmp_path,
        (stored.astype(np.int64) & 0xFFFF).astype(np.uint16),
        **{"PixelRepresentation": int(dtype is np.int16)} | tags | marks,
    )
    series = read_series(tmp_path)
    brain = np.median(series.pixels[:, BRAIN])
    corner = series.pixels[0, 0, 0]
    assert (abs(brain - 35) < 5 and corner < 50) or warned(series, "unsure whether")


@pytest.mark.parametrize("missing", [{"RescaleIntercept": None}, {"RescaleSlope": None, "RescaleIntercept": None}])
def test_a_rescale_that_is_missing_in_some_slices_is_that_of_the_others_with_a_warning(tmp_path, missing):
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    image = head()
    write_stack(tmp_path, (image + 1024).astype(np.int16), each=lambda i: tags | (missing if i % 3 == 1 else {}))
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, image)
    assert warned(series, "rescale intercept missing in 2 of 6 images (899.dcm, 896.dcm): taken as -1024")


def test_rescales_that_differ_from_slice_to_slice_are_each_slices_own(tmp_path):
    image = head()
    added = [0, 1024, 0, 1000, 1024, 0]
    write_stack(tmp_path, (image + np.array(added)[:, None, None]).astype(np.int16),
                each=lambda i: {"RescaleSlope": 1, "RescaleIntercept": -added[i]})  # fmt: skip
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, image)
    assert series.warnings == []


@pytest.mark.parametrize("comment", ["", "x" * 5000])
@pytest.mark.parametrize("added", [1024, 8192])
def test_a_modality_lut_is_applied_as_pydicom_does(tmp_path, added, comment):
    image = head().clip(-1000, 2000)
    stored = ((image + 1000) // 4).astype(np.uint16)
    table = (4 * np.arange(1024) - 1000 + added).astype(np.uint16)
    item = pydicom.Dataset()
    item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [1024, 0, 16], "HU", table.tolist()
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    write_stack(tmp_path, stored, ModalityLUTSequence=[item], ImageComments=comment)
    series = read_series(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "900.dcm")
    by_pydicom = apply_modality_lut(dataset.pixel_array, dataset)
    assert series.shift_hu == -added
    np.testing.assert_array_equal(series.pixels[0] - series.shift_hu, by_pydicom)
    assert np.abs(series.pixels - image).max() < 4
