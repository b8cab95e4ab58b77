"""Ways to damage a DICOM file, each from a seed."""

from __future__ import annotations

import random
import struct
import warnings
from collections.abc import Callable

import pydicom
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32


def flip_header_bytes(data: bytearray, rng: random.Random) -> bytearray:
    pixels_at = data.rfind(b"\xe0\x7f\x10\x00")
    end = pixels_at + 20 if pixels_at > 132 else len(data)
    for _ in range(rng.choice((1, 3, 10, 40))):
        data[rng.randrange(132, end)] = rng.randrange(256)
    return data


def flip_pixel_bytes(data: bytearray, rng: random.Random) -> bytearray:
    start = max(data.rfind(b"\xe0\x7f\x10\x00"), 132)
    for _ in range(rng.choice((1, 5, 50, 500))):
        data[rng.randrange(start, len(data))] = rng.randrange(256)
    return data


def flip_codestream_head(data: bytearray, rng: random.Random) -> bytearray:
    """The first bytes of the compressed image hold its sizes and its offsets."""
    start = max(data.rfind(b"\xe0\x7f\x10\x00"), 132)
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(start, min(start + 140, len(data)))] = rng.choice(
            (0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256))
        )
    return data


def cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def insert_or_drop(data: bytearray, rng: random.Random) -> bytearray:
    at, n = rng.randrange(132, len(data)), rng.choice((1, 2, 7, 100))
    if rng.random() < 0.5:
        return data[:at] + bytes(rng.randrange(256) for _ in range(n)) + data[at:]
    return data[:at] + data[at + n :]


def swap_tags(data: bytearray, rng: random.Random) -> bytearray:
    """Exchanges two tags of group 0020 or 0028, so that values stand under the wrong name."""
    places = [i for i in range(132, len(data) - 4) if data[i] in (0x20, 0x28) and data[i + 1 : i + 2] == b"\0"][:60]
    if len(places) > 1:
        a, b = rng.sample(places, 2)
        data[a : a + 4], data[b : b + 4] = data[b : b + 4], data[a : a + 4]
    return data


ABSURD = {
    "Rows": (0, 1, 63, 65, 8192, 65535),
    "Columns": (0, 1, 79, 81, 8192, 65535),
    "BitsAllocated": (0, 1, 8, 12, 24, 32, 64, 65535),
    "BitsStored": (0, 1, 8, 15, 17, 65535),
    "PixelRepresentation": (0, 2, 65535),
    "SamplesPerPixel": (0, 2, 3, 65535),
    "NumberOfFrames": ("-5", "0", "1", "5", "7", "60", "2147483647", "99999999999999999999", "x"),
    "PhotometricInterpretation": ("", "MONOCHROME1", "RGB", "?"),
    "ImagePositionPatient": ("1e308\\1e308\\1e308", "nan\\0\\0", "inf\\1\\2", "1\\2", "a\\b\\c", "\\\\"),
    "ImageOrientationPatient": ("1e308\\0\\0\\0\\1e308\\0", "0\\0\\0\\0\\0\\0", "nan\\0\\0\\0\\1\\0", "1\\1"),
    "PixelSpacing": ("0\\0", "-1\\-1", "1e-30\\1e30", "0.05\\20", "1", "nan\\nan"),
    "RescaleSlope": ("0", "nan", "1e300", "-1", "", "1e-300"),
    "RescaleIntercept": ("nan", "1e300", "x", "-1e5"),
    "SliceThickness": ("-1", "1e300", "nan"),
    "InstanceNumber": ("1e300", "x", "99999999999999999999"),
    "PixelPaddingValue": (0, 1000, 65535),
    "TransferSyntaxUID": [
        f"1.2.840.10008.1.2.{n}" for n in ("5", "1.99", "2", "4.50", "4.80", "4.90", "4.201", "4.100")
    ]
    + ["1.2.840.10008.1.2", "1.2.3", ""],
}


def absurd_values(data: bytearray, rng: random.Random) -> bytearray:
    """Some elements replaced by values that cannot be, as raw bytes past pydicom's checks."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(bytes(data)))
    implicit, little = dataset.original_encoding
    for name in rng.sample(sorted(ABSURD), rng.choice((1, 1, 2, 4))):
        value = rng.choice(ABSURD[name])
        if name == "TransferSyntaxUID":
            dataset.file_meta.TransferSyntaxUID = value
            continue
        raw = value.encode() if isinstance(value, str) else value.to_bytes(2, "little" if little else "big")
        raw += b" " * (len(raw) % 2)
        tag, vr = pydicom.tag.Tag(name), pydicom.datadict.dictionary_VR(name)[:2]
        dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(raw), raw, 0, implicit, little)
    return _written(dataset, data)


def garbage_in_groups(data: bytearray, rng: random.Random) -> bytearray:
    """Functional groups that are empty, of the wrong type, too few, or filled with other things."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(bytes(data)))
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [pydicom.Dataset() for _ in range(6)])
    item = _with_raw(pydicom.Dataset(), 0x00209113, "UN", rng.randbytes(30))
    empty = pydicom.Dataset()
    empty.PlanePositionSequence, empty.PixelMeasuresSequence = [], [pydicom.Dataset()]
    text = _with_raw(pydicom.Dataset(), 0x00289110, "LO", b"not a sequence")
    choice = rng.randrange(5)
    if choice == 0:
        frames = [rng.choice((frame, item, empty, text)) for frame in frames]
    elif choice == 1:
        frames = frames[: rng.randrange(6)]
    elif choice == 2:
        frames = frames * 3
    dataset.PerFrameFunctionalGroupsSequence = frames
    if choice >= 3:
        dataset = _with_raw(dataset, 0x52009229 + choice % 2, "UN" if choice == 3 else "LO", rng.randbytes(200))
    if rng.random() < 0.5:
        dataset.NumberOfFrames = None
    return _written(dataset, data)


def _with_raw(dataset: pydicom.Dataset, tag: int, vr: str, raw: bytes) -> pydicom.Dataset:
    tag = pydicom.tag.Tag(tag)
    dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(raw), raw, 0, False, True)
    return dataset


def _written(dataset: pydicom.Dataset, data: bytearray) -> bytearray:
    buffer = pydicom.filebase.DicomBytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            implicit, little = dataset.original_encoding
            pydicom.dcmwrite(
                buffer,
                dataset,
                enforce_file_format=False,
                implicit_vr=implicit,
                little_endian=little,
                force_encoding=True,
            )
        except Exception:  # what pydicom does not write is damaged in another way
            return data[: len(data) // 2]
    return bytearray(buffer.getvalue())


def _elements(data: bytearray) -> list[tuple[int, int, int]]:
    """(start, start of the value, end) of the elements at the top of a file; none where they cannot be told."""
    try:
        dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(bytes(data)), force=True)
        elements = [dataset.get_item(tag) for tag in dataset.keys()]  # noqa: SIM118
    except Exception:
        return []
    found = []
    for element in elements:
        long = not getattr(element, "is_implicit_VR", True) and element.VR in EXPLICIT_VR_LENGTH_32
        at = getattr(element, "value_tell", None) or 0
        found += [(at - (12 if long else 8), at)] if at > 144 else []
    found.sort()
    return [(*own, after[0]) for own, after in zip(found, [*found[1:], (len(data), 0)], strict=True)]


def length_fields(data: bytearray, rng: random.Random) -> bytearray:
    """Lengths of elements that are too long, too short, odd, undefined or nearly endless."""
    for start, value, _ in rng.sample(elements := _elements(data), min(len(elements), rng.choice((1, 2, 5)))):
        if value - start == 8 and rng.random() < 0.7:
            length = rng.choice((0, 1, 2, 7, 0x7FFF, 0xFFFE, 0xFFFF, rng.randrange(65536)))
            data[value - 2 : value] = struct.pack("<H", length)
        else:
            length = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, rng.randrange(2**32)))
            data[value - 4 : value] = struct.pack("<I", length)
    return data


def other_vrs(data: bytearray, rng: random.Random) -> bytearray:
    """Elements that say to be of another type than they are."""
    for start, _, _ in rng.sample(elements := _elements(data), min(len(elements), rng.choice((1, 3, 10)))):
        data[start + 4 : start + 6] = rng.choice((b"SQ", b"UN", b"OB", b"DS", b"US", b"FD", b"UT", b"??", b"\0\0"))
    return data


def repeat_or_remove(data: bytearray, rng: random.Random) -> bytearray:
    """Elements twice, a thousand times, in another place, or not at all."""
    elements = _elements(data)[:-1]
    for start, _, end in sorted(rng.sample(elements, min(len(elements), rng.choice((1, 2, 5)))), reverse=True):
        element = data[start:end]
        match rng.randrange(4):
            case 0:
                data[start:end] = b""
            case 1:
                data[start:start] = element
            case 2:
                data[start:start] = element * min(1000, 1 + 100_000 // max(1, len(element)))
            case 3:
                at = rng.choice(elements)[0]
                data[at:at] = element
    return data


def splice(data: bytearray, rng: random.Random) -> bytearray:
    """A stretch of the file written over another place of it, or put there."""
    start, at = rng.randrange(len(data)), rng.randrange(132, max(133, len(data)))
    piece = data[start : start + rng.choice((4, 16, 200, 5000))]
    data[at : at + rng.choice((0, len(piece)))] = piece
    return data


def nested_items(data: bytearray, rng: random.Random) -> bytearray:
    """A sequence in a sequence in a sequence, deep or wide, before the first element that is found."""
    n = rng.choice((10, 500, 5000))
    head, item = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    deep = (head + item) * n if rng.random() < 0.5 else head + (item + b"\xfe\xff\x0d\xe0\0\0\0\0") * n
    at = (_elements(data) or [(min(len(data), 132), 0, 0)])[0][0]
    data[at:at] = deep
    return data


DAMAGES: tuple[Callable, ...] = (
    flip_header_bytes,
    flip_pixel_bytes,
    flip_codestream_head,
    cut,
    insert_or_drop,
    swap_tags,
    absurd_values,
    garbage_in_groups,
    length_fields,
    other_vrs,
    repeat_or_remove,
    splice,
    nested_items,
)
