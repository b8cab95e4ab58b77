"""Elements that are written wrongly or contradict: read right, or named in a warning."""

from __future__ import annotations

import numpy as np
import pytest

from aneurysm.dicom.series import read_series
from tests.dicom_writer import ramp, warned, write_image, write_stack

VOLUME = ramp((4, 6, 8))


def test_decimal_commas_are_read(tmp_path):
    write_stack(tmp_path, VOLUME, PixelSpacing=["0.75", "0.75"], ImagePositionPatient=None, Modality="MR")
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        assert data.count(b"0.75\\0.75 ") == 1
        path.write_bytes(data.replace(b"0.75\\0.75 ", b"0,75\\0,75 "))
    series = read_series(tmp_path)
    assert series.geometry.spacing[1:] == (0.75, 0.75) and not warned(series, "pixel spacing")


@pytest.mark.parametrize("name", ["NominalScannedPixelSpacing", "ImagerPixelSpacing"])
def test_a_nominal_spacing_stands_in_for_a_missing_one_with_a_warning(tmp_path, name):
    write_stack(tmp_path, VOLUME, PixelSpacing=None, **{name: [0.4, 0.6]})
    series = read_series(tmp_path)
    assert series.geometry.spacing[1:] == (0.4, 0.6)
    assert warned(series, "pixel spacing missing: nominal spacing of 0.4 x 0.6 mm taken")


def test_mosaics_are_left_out_beside_slices_and_named_where_they_are_all(tmp_path):
    mosaic = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "Modality": "MR"}
    write_stack(tmp_path / "a", VOLUME, Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "ND"])
    write_image(tmp_path / "a" / "mosaic.dcm", VOLUME[0], SOPInstanceUID="1.9", **mosaic)
    series = read_series(tmp_path / "a")
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert warned(series, "mosaic.dcm") and warned(series, "ImageType")
    write_stack(tmp_path / "b", VOLUME, **mosaic)
    assert warned(read_series(tmp_path / "b"), "found many in 4 (ImageType MOSAIC)")


def test_a_high_bit_that_contradicts_the_bits_stored_is_named(tmp_path):
    write_stack(tmp_path, VOLUME.astype(np.uint16), BitsStored=12, HighBit=15, Modality="MR")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert warned(series, "HighBit contradicts BitsStored in 4 images: expected 11, found 15")


def test_padding_0_that_is_also_water_counts_only_from_the_border_on(tmp_path):
    image = np.full((3, 20, 20), -1000, np.int16)
    image[:, 4:16, 4:16] = 35
    image[:, 8:10, 8:10] = 0  # a ventricle
    padded = image.copy()
    padded[:, :, :2] = 0
    write_stack(tmp_path, padded, PixelPaddingValue=0, RescaleSlope=1, RescaleIntercept=0)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, image)
