"""Small files that declare far more than they hold are refused before memory is taken for it."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from tests.dicom_writer import transcode, write_image
from tests.read_damaged import read_in_a_process

MIB = 2**20
SMALL = np.arange(64 * 64, dtype=np.int16).reshape(64, 64)
SPARE_GIB = 0.2  # that may be held beyond what a small image takes


def said_to_be(path: Path, **tags: int) -> Path:
    """The file with these elements in place of its own."""
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def large_uncompressed(path: Path) -> Path:
    return said_to_be(write_image(path, SMALL), Rows=60000, Columns=60000)


def large(syntax: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        return said_to_be(write_image(path, SMALL, syntax), Rows=60000, Columns=60000)

    write.__name__ = f"large_{pydicom.uid.UID(syntax).name.split()[0]}"
    return write


def just_small_enough(path: Path) -> Path:
    """8192 x 8192, of a run-length code of a few kilobytes."""
    return said_to_be(write_image(path, SMALL, RLELossless), Rows=8192, Columns=8192)


def blank_jpeg_2000(path: Path) -> Path:
    """A sound code of 160 bytes for 8192 x 8192 zeros."""
    return write_image(path, np.zeros((8192, 8192), np.int16), JPEG2000Lossless)


def blank_jpeg_ls(path: Path) -> Path:
    transcode(write_image(path, np.zeros((8192, 8192), np.int16)), gdcm.TransferSyntax.JPEGLSLossless)
    return path


def million_frames(path: Path) -> Path:
    return said_to_be(write_image(path, SMALL[None]), NumberOfFrames=1_000_000)


def million_compressed_frames(path: Path) -> Path:
    return said_to_be(write_image(path, SMALL[None], RLELossless), NumberOfFrames=1_000_000)


def million_tiny_frames(path: Path) -> Path:
    """All of them there: images of one pixel."""
    return write_image(path, np.zeros((1_000_000, 1, 1), np.uint8))


def many_blank_frames(path: Path) -> Path:
    """6,000 sound frames of 2048 x 2048 zeros, 50 GB, in a megabyte."""
    dataset = pydicom.dcmread(write_image(path, np.zeros((2048, 2048), np.int16), JPEG2000Lossless))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData, dataset.NumberOfFrames = encapsulate([frame] * 6000), 6000
    dataset.save_as(path)
    return path


def deflated(path: Path) -> Path:
    """A gigabyte of zeros behind a header, deflated to a megabyte."""
    dataset = pydicom.dcmread(write_image(path, SMALL))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    data = path.read_bytes()
    start = 132 + 12 + struct.unpack_from("<I", data, 140)[0]
    content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:])
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = [packer.compress(content + b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<I", 1024 * MIB))]
    packed += [packer.compress(bytes(MIB)) for _ in range(1024)]
    path.write_bytes(data[:start] + b"".join(packed) + packer.flush())
    return path


def million_items(path: Path) -> Path:
    """A sequence of a million empty items, without a length."""
    return with_items(path, 0xFFFFFFFF, b"\xfe\xff\xdd\xe0\0\0\0\0")


def million_items_of_known_length(path: Path) -> Path:
    """The same with its length, so that pydicom looks into it later."""
    return with_items(path, 8_000_000, b"")


def with_items(path: Path, length: int, end: bytes) -> Path:
    data = write_image(path, SMALL).read_bytes()
    at = data.index(b"\x20\x00\x0d\x00UI")
    head = b"\x18\x00\x12\x00SQ\0\0" + struct.pack("<I", length)
    path.write_bytes(data[:at] + head + b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000 + end + data[at:])
    return path


BOMBS = (
    large_uncompressed, large(RLELossless), large(JPEG2000Lossless), just_small_enough, blank_jpeg_2000, blank_jpeg_ls,
    million_frames, million_compressed_frames, million_tiny_frames, many_blank_frames, deflated, million_items,
    million_items_of_known_length,
)  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_a_small_file_that_declares_much_costs_little_memory(tmp_path, bomb):
    files = [write_image(tmp_path / "small.dcm", SMALL), bomb(tmp_path / "bomb.dcm")]
    assert files[1].stat().st_size < 20 * MIB
    (sound, of_bomb), crash = read_in_a_process(files)
    assert not crash
    assert sound["read"] and not of_bomb["trouble"]
    assert of_bomb["peak_gib"] < sound["peak_gib"] + SPARE_GIB
    assert of_bomb["cpu_s"] < 60  # for as many items as a header may have; the others take none
