"""Checks the size in a compressed image against the DICOM header before decoding.

A decoder that meets an unexpected size may crash the whole process (GDCM does so on JPEG-LS).
"""

from __future__ import annotations

import struct

_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG (ISO 10918-1 B.2.2), JPEG-LS (ISO 14495-1 C.2)


def check_codestream(encoded: bytes, rows: int, cols: int) -> None:
    """Raises ValueError if a JPEG, JPEG-LS or JPEG 2000 image is not grey or not of this size."""
    try:
        found = _jpeg_2000_size(encoded) if encoded[:2] == b"\xff\x4f" else _jpeg_size(encoded)
    except (struct.error, IndexError) as error:
        raise ValueError("the compressed image is cut short in its header") from error
    if found != (rows, cols, 1):
        raise ValueError(f"expected {rows} x {cols} x 1 values, the compressed image has {found}")


def _jpeg_2000_size(encoded: bytes) -> tuple[int, int, int]:
    """Rows, columns, components from the SIZ segment, which comes first (ISO 15444-1 A.5.1)."""
    right, bottom, left, top = struct.unpack(">4I", encoded[8:24])
    return bottom - top, right - left, struct.unpack(">H", encoded[40:42])[0]


def _jpeg_size(encoded: bytes) -> tuple[int, int, int]:
    """Rows, columns, components from the frame header, which comes before the first scan."""
    at = 2
    while encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker in _FRAME_MARKERS:
            return struct.unpack(">HHB", encoded[at + 5 : at + 10])
        at += 1 if marker == 0xFF else 2 + struct.unpack(">H", encoded[at + 2 : at + 4])[0]
    raise ValueError("the compressed image has no frame header")
