"""Pixels of every encoding, decoded where asked for, in threads."""

from __future__ import annotations

import threading
import time

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from aneurysm.cache.slices import cached_slices
from aneurysm.dicom import pixels
from aneurysm.dicom import series as series_module
from aneurysm.dicom.intensity import Window
from aneurysm.dicom.series import read_series
from tests.dicom_writer import (
    AXIAL,
    CORONAL,
    SERIES_UID,
    ramp,
    transcode,
    warned,
    write_enhanced,
    write_image,
    write_stack,
)

GDCM_SYNTAXES = ("JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
    ],
)
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_every_syntax_of_pydicom_gives_the_stored_pixels(tmp_path, syntax, dtype):
    volume = ramp((3, 40, 50), dtype, start=-500 if dtype is np.int16 else 60000 - 6000)
    write_stack(tmp_path, volume, syntax=syntax, Modality="MR")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert series.warnings == []


@pytest.mark.parametrize("name", GDCM_SYNTAXES)
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
def test_every_syntax_of_gdcm_gives_the_stored_pixels(tmp_path, name, dtype):
    volume = ramp((2, 40, 50), dtype, start=-500 if dtype is np.int16 else 0)
    write_stack(tmp_path, volume, Modality="MR")
    for path in tmp_path.iterdir():
        transcode(path, getattr(gdcm.TransferSyntax, name))
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume)


def test_encapsulated_frames_are_found_where_their_number_is_absent(tmp_path):
    volume = ramp((5, 40, 50))
    path = write_enhanced(tmp_path / "a.dcm", volume, syntax=RLELossless)
    dataset = pydicom.dcmread(path)
    del dataset.NumberOfFrames, dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
    dataset.save_as(path)
    np.testing.assert_array_equal(read_series(path).pixels, volume)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_compressed_multi_frame_file_gives_each_frame(tmp_path, syntax):
    volume = ramp((5, 40, 50))
    write_enhanced(tmp_path / "a.dcm", volume, syntax=syntax)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume)
    np.testing.assert_array_equal(read_series(tmp_path, select=[3, 1]).pixels, volume[[3, 1]])


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("signed", [False, True])
def test_any_number_of_stored_bits_is_read_and_old_overlays_above_them_are_dropped(tmp_path, bits, signed):
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = np.linspace(low, high, 48).round().astype(np.int64).reshape(1, 6, 8)
    overlay = (1 << bits) if bits < 16 else 0
    stored = np.where(np.arange(8) % 2, values & ((1 << bits) - 1), (values & ((1 << bits) - 1)) | overlay)
    tags = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed), "Modality": "MR"}
    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian, *([RLELossless] if bits > 8 else [])):
        folder = tmp_path / syntax
        write_stack(folder, stored.astype(np.uint16), syntax=syntax, **tags)
        np.testing.assert_array_equal(read_series(folder).pixels, values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int32])
def test_pixels_of_8_and_32_bits_are_read(tmp_path, dtype):
    volume = ramp((2, 7, 9), dtype)  # an odd number of bytes a slice, which DICOM pads to an even one
    encodings = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, *([RLELossless] if volume.itemsize == 1 else []))
    for syntax in encodings:
        write_stack(tmp_path / syntax, volume, syntax=syntax, Modality="MR")
        np.testing.assert_array_equal(read_series(tmp_path / syntax).pixels, volume)


def test_a_slope_other_than_1_is_used_on_mr(tmp_path):
    volume = ramp((3, 6, 8))
    write_stack(tmp_path, volume, Modality="MR", RescaleSlope="2.5", RescaleIntercept="-3")
    np.testing.assert_allclose(read_series(tmp_path).pixels, volume * 2.5 - 3)


@pytest.mark.parametrize("photometric", ["RGB", "PALETTE COLOR", "YBR_FULL"])
def test_colour_is_refused_with_a_reason(tmp_path, photometric):
    samples = 1 if photometric == "PALETTE COLOR" else 3
    tags = {"PhotometricInterpretation": photometric, "SamplesPerPixel": samples, "PlanarConfiguration": 0}
    write_image(tmp_path / "capture.dcm", np.zeros((6, 18), np.uint8), **tags, Columns=6)
    with pytest.raises(ValueError, match=rf"capture.dcm: expected grey values, found colour \({photometric}\)"):
        read_series(tmp_path)


def test_a_colour_capture_beside_a_series_is_left_out_and_named(tmp_path):
    volume = ramp((3, 6, 8))
    write_stack(tmp_path, volume)
    write_image(tmp_path / "capture", np.zeros((6, 24), np.uint8), PhotometricInterpretation="RGB", SamplesPerPixel=3)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert warned(series, "capture") and warned(series, "RGB")


@pytest.mark.parametrize("select", [[], [2], [3, 0], (n for n in (1, 1))])
def test_select_decodes_only_the_slices_asked_for(tmp_path, monkeypatch, select):
    volume, decoded, original = ramp((6, 6, 8)), [], series_module.decode_frame
    write_stack(tmp_path, volume)
    select = list(select)

    def counting(frame):
        decoded.append(frame.sop_uid)
        return original(frame)

    monkeypatch.setattr(series_module, "decode_frame", counting)
    series = read_series(tmp_path, select=select)
    assert decoded == [f"{SERIES_UID}.{i + 1}" for i in select]
    assert series.geometry.shape == (6, 6, 8)
    if select:
        np.testing.assert_array_equal(series.pixels, volume[select])
    else:
        assert series.pixels is None


def test_select_counts_canonical_slices(tmp_path):
    volume = ramp((6, 6, 8))
    write_stack(tmp_path, volume, orientation=(1, 0, 0, 0, -1, 0))  # rows to the front: the normal points down
    series = read_series(tmp_path, select=[0, 4])
    np.testing.assert_array_equal(series.pixels, volume[[5, 1], ::-1])


@pytest.mark.parametrize(("orientation", "gap_mm"), [(AXIAL, 5), (CORONAL, 1)])  # the second is re-sliced
def test_threads_decode_at_the_same_time_and_give_the_same_pixels(tmp_path, monkeypatch, orientation, gap_mm):
    volume, running, most, lock = ramp((12, 6, 8)), [], [], threading.Lock()
    write_stack(tmp_path, volume, orientation, (gap_mm, 1, 1))
    expected = read_series(tmp_path).pixels
    original = series_module.decode_frame

    def slow(frame):
        with lock:
            running.append(frame)
            most.append(len(running))
        time.sleep(0.02)
        with lock:
            running.remove(frame)
        return original(frame)

    monkeypatch.setattr(series_module, "decode_frame", slow)
    np.testing.assert_array_equal(read_series(tmp_path, threads=4).pixels, expected)
    assert 1 < max(most) <= 4


def test_rle_is_read_without_its_fast_plugin(tmp_path, monkeypatch):
    volume = ramp((3, 40, 50), start=-500)
    write_stack(tmp_path, volume, syntax=RLELossless, Modality="MR")
    monkeypatch.setattr(pixels, "decode_rle", None)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume)


def test_slices_stored_signed_and_unsigned_may_be_mixed_in_a_resliced_series(tmp_path):
    values = ramp((4, 6, 8), np.int32, start=-20)
    values[2] += 40000

    def representation(i: int) -> dict:
        return {"PixelRepresentation": int(i != 2)}

    write_stack(tmp_path, values.astype(np.uint16), CORONAL, (1, 1, 1), each=representation, Modality="MR")
    np.testing.assert_array_equal(read_series(tmp_path).pixels, values.transpose(1, 0, 2)[::-1])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_a_cached_slice_is_the_image_itself_where_nothing_has_to_be_resized(tmp_path, syntax):
    volume = ramp((1, 512, 512), np.uint16)
    write_stack(tmp_path, volume, syntax=syntax, Modality="MR")
    series = read_series(tmp_path, select=())
    image = next(cached_slices(series, Window(0, 65535), [0]))
    np.testing.assert_allclose(image, volume[0] / 65535, atol=5e-4)
