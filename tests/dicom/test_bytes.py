"""Files whose bytes are not what they should be, read as pydicom and SimpleITK read them: these are the judges."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from aneurysm.dicom.series import read_series
from tests.dicom_writer import AXIAL, CORONAL, make_dataset, ramp, write_stack

VOLUME = ramp((4, 24, 16), start=-300)


def by_simpleitk(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0]


def by_pydicom(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return dataset.pixel_array


def with_meta_syntax(path: Path, syntax: str) -> None:
    """Changes the Transfer Syntax UID in the meta header alone, whose length stays right."""
    data = path.read_bytes()
    start = data.index(b"\x02\x00\x10\x00UI") + 8
    length = int.from_bytes(data[start - 2 : start], "little")
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    group = data.index(b"\x02\x00\x00\x00UL\x04\x00") + 8
    total = int.from_bytes(data[group : group + 4], "little") + len(uid) - length
    data = data[: start - 2] + len(uid).to_bytes(2, "little") + uid + data[start + length :]
    path.write_bytes(data[:group] + total.to_bytes(4, "little") + data[group + 4 :])


@pytest.mark.parametrize("comment", ["", "x" * 5000])  # a long header is read by pydicom, a short one by our own parser
@pytest.mark.parametrize(
    ("true", "messages"),
    [(ExplicitVRLittleEndian, ImplicitVRLittleEndian), (ImplicitVRLittleEndian, ExplicitVRLittleEndian)],
)
@pytest.mark.filterwarnings("ignore:Expected")
def test_a_meta_header_that_lies_about_explicit_or_implicit_does_not_shift_the_pixels(
    tmp_path, true, messages, comment
):
    write_stack(tmp_path, VOLUME, syntax=true, ImageComments=comment, Modality="MR")
    for path in tmp_path.iterdir():
        with_meta_syntax(path, messages)
        np.testing.assert_array_equal(by_pydicom(path), VOLUME[900 - int(path.stem)])
    np.testing.assert_array_equal(read_series(tmp_path).pixels, VOLUME)


@pytest.mark.parametrize("first", ["SpecificCharacterSet", "ImageType", "SOPClassUID"])
@pytest.mark.parametrize("implicit", [False, True])
def test_data_sets_without_preamble_and_meta_header_are_read(tmp_path, implicit, first):
    for i, pixels in enumerate(VOLUME):
        position = {"ImagePositionPatient": [0, 0, 5 * i], "SOPInstanceUID": f"1.{i}", "Modality": "MR"}
        begins = {
            "SpecificCharacterSet": "ISO_IR 100",
            "ImageType": ["ORIGINAL", "PRIMARY"],
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        }
        dataset = make_dataset(pixels, **position, **{first: begins[first]})
        del dataset.file_meta
        pydicom.dcmwrite(tmp_path / f"{i}", dataset, implicit_vr=implicit, little_endian=True)
        np.testing.assert_array_equal(by_pydicom(tmp_path / f"{i}"), pixels)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, VOLUME)


def test_a_text_that_begins_like_an_element_is_no_image(tmp_path):
    (tmp_path / "a").write_bytes(b"\x08\x00\x05\x00" + bytes(range(200)))
    with pytest.raises(ValueError, match="not a"):
        read_series(tmp_path)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL])
@pytest.mark.parametrize(("name", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_float_pixels_are_taken_as_they_are_also_where_the_series_is_resliced(tmp_path, name, kind, orientation):
    values = VOLUME + 0.25
    write_stack(tmp_path / "whole", VOLUME * 4 + 1, orientation, (1.0, 1, 1), RescaleSlope=0.25, Modality="MR")
    for path in sorted((tmp_path / "whole").iterdir()):
        dataset = pydicom.dcmread(path)
        for tag in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope"):
            delattr(dataset, tag)
        number = 900 - int(path.stem)
        dataset.BitsAllocated = 8 * np.dtype(kind).itemsize
        setattr(dataset, name, values[number].astype(kind).tobytes())
        (tmp_path / "float").mkdir(exist_ok=True)
        dataset.save_as(tmp_path / "float" / path.name)
        np.testing.assert_array_equal(by_pydicom(tmp_path / "float" / path.name), values[number])
    whole, floats = read_series(tmp_path / "whole"), read_series(tmp_path / "float")
    assert floats.geometry.resliced == (orientation == CORONAL)
    np.testing.assert_array_equal(floats.pixels, whole.pixels)


@pytest.mark.parametrize("vr", ["OW", "OB"])
def test_8_bit_big_endian_pixels_are_read_as_the_judges_do(tmp_path, vr):
    volume = ramp((3, 8, 10), np.uint8)
    write_stack(tmp_path, volume, syntax=ExplicitVRBigEndian, Modality="MR")
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset["PixelData"].VR = vr
        dataset.save_as(path)
    pixels = read_series(tmp_path).pixels
    for i in range(3):
        np.testing.assert_array_equal(pixels[i], by_pydicom(tmp_path / f"{900 - i}.dcm"))
        if vr == "OB":
            np.testing.assert_array_equal(pixels[i], by_simpleitk(tmp_path / f"{900 - i}.dcm"))
