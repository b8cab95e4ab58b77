"""Reads the header of one DICOM file: the few elements that are needed to read images, and where the pixels begin.

A plain header is parsed from the first bytes of the file, five times faster than with pydicom; any other (sequences,
big endian, deflated, no preamble) is read by pydicom, with the same result.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from aneurysm.dicom.bounded_file import BoundedFile, check_items
from aneurysm.dicom.elements import WANTED

PIXEL_DATA = 0x7FE00010
FLOAT_PIXELS = {(0x7FE0, 0x0008): 32, (0x7FE0, 0x0009): 64}  # Float and Double Float Pixel Data: bits per pixel
FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)  # shared, per frame
MODALITY_LUT = 0x00283000
_END = -1
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # with a length of four bytes
_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()) | _LONG_VRS
_ELEMENT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")  # tag, VR and length; length of four bytes
_SHORT = 128  # values with fewer bytes are converted through a cache
_PLAIN_BYTES = 4096  # a single-frame header of the competition takes 800 to 1,100 bytes


NO_PICTURE = "SEG PR SR KO RTSTRUCT RTPLAN RTDOSE RTRECORD REG FID DOC PLAN ASMT AU ECG HD".split()  # modalities
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # prefix: also of the multi-frame secondary captures


class NoPicture(ValueError):
    """A valid DICOM object that is not an image of a patient, or a screenshot; it is left out without an error."""


@dataclass
class Header:
    """The header of one file.

    values        keyword -> str for texts, tuple of floats for numbers; without absent and unreadable elements
    syntax        transfer syntax of the pixels
    pixel_offset  byte at which the value of Pixel Data begins; None if it is absent or the file is deflated
    pixel_bytes   length of that value; None if it is encapsulated
    float_bits    32 or 64 for floating-point pixels; else 0
    dataset       the pydicom data set, for files with functional groups (multi-frame) or a Modality LUT; else None
    """

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    syntax: UID = ImplicitVRLittleEndian
    pixel_offset: int | None = None
    pixel_bytes: int | None = None
    float_bits: int = 0
    dataset: pydicom.Dataset | None = None

    def number(self, name: str, default: float | None = None) -> float | None:
        """The first value of a numeric element, or `default`."""
        return self.values[name][0] if self.values.get(name) else default

    def vector(self, name: str, length: int) -> tuple[float, ...] | None:
        """A numeric element with exactly `length` finite values, or None."""
        value = self.values.get(name, ())
        return value if len(value) == length else None


def read_header(path: Path) -> Header:
    """The header of one DICOM image file, without its pixels.

    Raises ValueError naming the file if it is not a DICOM file or has no image, and its subclass NoPicture for
    segmentations, reports, presentation states, plans, doses and screenshots.
    """
    with BoundedFile(open(path, "rb", buffering=0)) as file:
        header = _read_plain(path, file.read(_PLAIN_BYTES))
        if header is None:
            file.seek(0)
            header = _read_any(path, file)
    modality, kind = header.values.get("Modality", "no modality"), header.values.get("SOPClassUID", "")
    if modality in NO_PICTURE:
        raise NoPicture(f"{path}: not an image of a patient ({modality})")
    if kind.startswith(SECONDARY_CAPTURE) and header.dataset is None and "ImagePositionPatient" not in header.values:
        raise NoPicture(f"{path}: not an image of a patient (a secondary capture without a position: a screenshot)")
    if header.number("Rows", 0) < 1 or header.number("Columns", 0) < 1:
        raise ValueError(f"{path}: not an image ({modality}: no rows and columns)")
    return header


def _read_plain(path: Path, start: bytes) -> Header | None:
    """The header if it is flat, little endian and ends within `start`; else None."""
    if start[128:132] != b"DICM":
        return None
    try:
        meta = dict(_flat_elements(start, 132, 0x30000, implicit=False))
        syntax = _uid(meta[0x00020010])
        if syntax == DeflatedExplicitVRLittleEndian or not syntax.is_transfer_syntax or not syntax.is_little_endian:
            return None
        if (start[meta[_END] + 4 : meta[_END] + 6] in _VRS) == syntax.is_implicit_VR:
            return None  # the meta header is wrong
        header = Header(path, syntax=syntax)
        for tag, value in _flat_elements(start, meta[_END], PIXEL_DATA, syntax.is_implicit_VR):
            if tag in (*FUNCTIONAL_GROUPS, MODALITY_LUT):
                return None
            if tag != _END:
                _take(header, tag, value)
            else:
                _find_pixels(header, start[value : value + 12], value + 12)
    except (ValueError, KeyError, struct.error):  # pydicom's reader tries next
        return None
    return header if header.pixel_offset else None


@lru_cache(maxsize=64)
def _uid(value: bytes) -> UID:
    return UID(value.decode().rstrip("\0 "))


def _flat_elements(data: bytes, at: int, until: int, implicit: bool) -> Iterator[tuple[int, bytes | int]]:
    """Yields (tag, value) of little endian elements from byte `at` to the tag `until`; last (_END, byte of that tag).

    DICOM PS3.5 section 7.1. Raises ValueError or struct.error if an element has an undefined length or is truncated.
    """
    while True:
        group, element, vr, length = _ELEMENT.unpack_from(data, at)
        tag = group << 16 | element
        if tag >= until:
            yield _END, at
            return
        if implicit or vr in _LONG_VRS:
            at += 4 if implicit else 8
            length = _LENGTH.unpack_from(data, at)[0]
            at += 4
        else:
            at += 8
        if at + length > len(data) or not (implicit or vr.isupper()):
            raise ValueError("not a flat header")
        yield tag, data[at : at + length]
        at += length


def _read_any(path: Path, file: BoundedFile) -> Header:
    """The header, read by pydicom, which supports every encoding."""
    try:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=_looks_bare(file))
        check_items(dataset)
    except Exception as error:
        raise ValueError(f"{path}: not a readable DICOM file ({type(error).__name__}: {error})") from error
    syntax = _syntax(dataset)
    header = Header(path, syntax=syntax)
    for tag in WANTED:
        element = _element(dataset, tag)
        if element is not None:
            _take(header, tag, element.value, getattr(element, "is_little_endian", True))
    if any(tag in dataset for tag in (*FUNCTIONAL_GROUPS, MODALITY_LUT)):
        header.dataset = dataset
    if syntax != DeflatedExplicitVRLittleEndian:
        at = file.tell()
        _find_pixels(header, file.read(12), at + 12)
    return header


def _element(dataset: pydicom.Dataset, tag: int) -> Any:
    """An element, raw if pydicom has not converted it yet; None if it is absent or its VR is unknown."""
    try:
        return dataset.get_item(tag)
    except Exception:  # pydicom raises a different error for each kind of damage
        return None


def _looks_bare(file: BoundedFile) -> bool:
    """Whether a file without the DICM prefix begins like a data set: an element of group 0002 or 0008 with a VR or,
    without one, a plausible length."""
    start = file.read(132)
    file.seek(0)
    if start[128:] == b"DICM" or len(start) < 12:
        return False
    for order in "<>":
        group, element, vr, length = struct.unpack(order + "HH2s2xI", start[:12])
        if group in (2, 8) and element < 0x0100:
            return vr in _VRS or struct.unpack(order + "I", start[4:8])[0] <= 64
    return False


def _syntax(dataset: pydicom.Dataset) -> UID:
    """The transfer syntax of a data set; if the file does not state it, the one that pydicom detected."""
    named = UID(str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", "")))
    if named.is_transfer_syntax:
        return named
    implicit, little_endian = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _find_pixels(header: Header, head: bytes, end: int) -> None:
    """Sets the position of the pixels in `header`; `head` holds the 12 bytes of the file that end at byte `end`.

    The presence of a VR there decides between explicit and implicit VR, since the meta header may be wrong.
    """
    order = "<" if header.syntax.is_little_endian else ">"
    tag = struct.unpack(order + "HH", head[:4]) if len(head) == 12 else None
    if tag not in ((0x7FE0, 0x0010), *FLOAT_PIXELS):
        return
    header.float_bits = FLOAT_PIXELS.get(tag, 0)
    explicit = head[4:6] in _LONG_VRS  # their first byte is odd: no length of pixels begins like this
    if not header.syntax.is_encapsulated and header.syntax.is_implicit_VR == explicit:
        header.syntax = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    length = struct.unpack(order + "I", head[8:12] if explicit else head[4:8])[0]
    header.pixel_offset = end if explicit else end - 4
    header.pixel_bytes = None if length == 0xFFFFFFFF else length


def _take(header: Header, tag: int, value: Any, little_endian: bool = True) -> None:
    """Stores an element of WANTED if its value, raw or converted, can be read."""
    if tag not in WANTED or value is None:
        return
    known = isinstance(value, bytes) and len(value) < _SHORT  # most values are the same in all files of a series
    converted = (_converted if known else _converted.__wrapped__)(tag, value, little_endian)
    if converted:
        header.values[WANTED[tag][0]] = converted


@lru_cache(maxsize=1024)
def _converted(tag: int, value: Any, little_endian: bool) -> str | tuple[float, ...] | None:
    """The value of an element of WANTED; None if it cannot be read."""
    try:
        return WANTED[tag][1](value, little_endian)
    except (ValueError, struct.error, TypeError):
        return None
