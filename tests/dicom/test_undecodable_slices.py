"""Slices that cannot be decoded: each is blank and named, or left out, and the others stay as they are."""

from __future__ import annotations

import os

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from aneurysm.dicom import decoder_process
from aneurysm.dicom.series import read_series
from tests.dicom_writer import CORONAL, ramp, transcode, warned, write_stack


def test_a_decoder_that_crashed_is_started_again(tmp_path):
    volume = ramp((3, 40, 50))
    write_stack(tmp_path, volume, Modality="MR")
    for path in tmp_path.iterdir():
        transcode(path, gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume)
    helper = decoder_process._running()
    helper.kill()
    helper.wait()
    np.testing.assert_array_equal(read_series(tmp_path, threads=3).pixels, volume)


def test_a_file_that_crashes_its_decoder_costs_one_slice_only(tmp_path):
    volume = ramp((3, 40, 50))
    write_stack(tmp_path, volume, Modality="MR")
    for path in tmp_path.iterdir():
        transcode(path, gdcm.TransferSyntax.JPEGLosslessProcess14_1)
    crashing = tmp_path / "899.dcm"  # slice 1: GDCM ends its process over this
    dataset = pydicom.dcmread(crashing)
    dataset.BitsAllocated = 32
    dataset.save_as(crashing)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels[[0, 2]], volume[[0, 2]])
    assert warned(series, "899.dcm") and warned(series, "the decoder crashed")


def test_an_uncompressed_slice_that_is_cut_short_is_left_out_and_named(tmp_path):
    volume = ramp((4, 40, 50))
    write_stack(tmp_path, volume, Modality="MR")
    path = tmp_path / "898.dcm"  # slice 2
    os.truncate(path, path.stat().st_size - 1500)
    series = read_series(tmp_path)
    assert warned(series, "898.dcm")
    np.testing.assert_array_equal(series.pixels, volume[[0, 1, 3]])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_compressed_slice_that_is_cut_short_is_blank_and_named(tmp_path, syntax):
    noise = np.random.default_rng(0).integers(1, 4000, (4, 40, 50))
    volume = noise.astype(np.uint16)
    write_stack(tmp_path, volume, syntax=syntax, Modality="MR")
    path = tmp_path / "898.dcm"  # slice 2
    os.truncate(path, path.stat().st_size - 1500)
    series = read_series(tmp_path)
    assert warned(series, "898.dcm")
    np.testing.assert_array_equal(series.pixels[[0, 1, 3]], volume[[0, 1, 3]])
    assert series.pixels[2].max() == 0


def test_a_blank_slice_of_a_resliced_unsigned_ct_is_air(tmp_path):
    volume = ramp((6, 40, 50), np.uint16, start=500)
    write_stack(tmp_path, volume, CORONAL, (1, 1, 1), syntax=RLELossless, RescaleIntercept=-1024, RescaleSlope=1)
    path = tmp_path / "898.dcm"  # slice 2 from the front
    os.truncate(path, path.stat().st_size - 1500)
    series = read_series(tmp_path)
    assert series.geometry.resliced
    assert series.pixels[:, 2].max() <= -1000
    np.testing.assert_array_equal(series.pixels[:, 3], volume[3, ::-1] - 1024.0)


@pytest.mark.parametrize("slopes", [(1, 1, 1, 1), (1, 2, 3, 1)])
def test_a_blank_slice_of_a_monochrome1_mr_is_no_brighter_than_the_others(tmp_path, slopes):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "MR", "BitsStored": 12, "HighBit": 11}
    write_stack(
        tmp_path, ramp((4, 20, 30), np.uint16), syntax=RLELossless, each=lambda i: {"RescaleSlope": slopes[i]}, **tags
    )
    path = tmp_path / "898.dcm"  # slice 2
    os.truncate(path, path.stat().st_size - 500)
    pixels = read_series(tmp_path).pixels
    assert (pixels[2] == -4095 * slopes[2]).all()  # high values are dark, and 12 bits hold 4095
    assert pixels[2].max() <= pixels.min(where=np.arange(4)[:, None, None] != 2, initial=0)


def test_a_series_of_which_no_slice_can_be_decoded_is_refused_by_name(tmp_path):
    write_stack(tmp_path, ramp((3, 40, 50)), syntax=RLELossless)
    for path in tmp_path.iterdir():
        os.truncate(path, path.stat().st_size - 1500)
    with pytest.raises(ValueError, match=str(tmp_path)):
        read_series(tmp_path)
