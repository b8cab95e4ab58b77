"""Counts the frames that a DICOM file really holds, and rejects implausible numbers."""

from __future__ import annotations

import struct

from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.uid import CTImageStorage, MRImageStorage, RLELossless

from aneurysm.dicom.header import Header

ONE_FRAME_CLASSES = (CTImageStorage, MRImageStorage)
_ITEM = 0xE000FFFE  # tag of an item, read as a little endian number
MAX_FRAMES = 2**15  # per file
MAX_EXPANSION = 10_000  # decoded bytes per byte of a compressed file; about 600 for a blank slice of 512 x 512
MAX_DECODED = 2**32  # decoded bytes of all frames of a compressed file: 8,192 slices of 512 x 512


def count_frames(header: Header, frame_bytes: int, listed: int) -> tuple[int, int]:
    """(number of frames in the file, number missing), from its content rather than NumberOfFrames alone.

    A decoded frame has `frame_bytes` bytes; `listed` is the number of per-frame functional groups. Raises ValueError
    naming the file if it has no pixel data, is too short for one frame, or declares more frames than it can hold (they
    would be allocated).
    """
    stated = max(0, int(header.number("NumberOfFrames", 0)))
    if header.pixel_bytes is None:
        if header.pixel_offset is None and header.syntax.is_encapsulated:
            raise ValueError(f"{header.path}: no pixel data")
        n_frames = stated or listed or _count_encapsulated(header)
        size = header.path.stat().st_size
        if n_frames > size // 8 or n_frames * frame_bytes > min(MAX_EXPANSION * size, MAX_DECODED):
            raise ValueError(f"{header.path}: {n_frames} frames of {frame_bytes} bytes cannot lie in {size} bytes")
        if n_frames > 1:
            n_frames = max(1, min(n_frames, _whole_fragments(header, n_frames)))
    else:
        there = min(header.pixel_bytes, header.path.stat().st_size - header.pixel_offset) // frame_bytes
        if there == 0:
            raise ValueError(f"{header.path}: expected {frame_bytes} bytes of pixels, found {header.pixel_bytes}")
        n_frames = min(stated or listed or there, there)
    if n_frames > MAX_FRAMES:
        raise ValueError(f"{header.path}: expected at most {MAX_FRAMES} frames, found {n_frames}")
    return n_frames, max(0, max(stated, listed) - n_frames)


def _whole_fragments(header: Header, n_frames: int) -> int:
    """Complete fragments in a truncated compressed file; `n_frames` if it is not truncated (or is damaged in another
    way, which the decoder reports)."""
    size = header.path.stat().st_size
    if header.pixel_offset is None:
        return n_frames
    with open(header.path, "rb") as file:
        at, n_whole = header.pixel_offset, -1  # the first item is the offset table
        while n_whole < n_frames:
            file.seek(at)
            head = file.read(8)
            tag, length = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
            if len(head) == 8 and tag != _ITEM:
                return n_frames
            if len(head) < 8 or at + 8 + length > size:
                return max(0, n_whole)
            at, n_whole = at + 8 + length, n_whole + 1
    return n_frames


def _count_encapsulated(header: Header) -> int:
    """Frames of a compressed file that does not state them: each begins with its codec's marker (DICOM PS3.5 A.4)."""
    if header.values.get("SOPClassUID") in ONE_FRAME_CLASSES or header.pixel_offset is None:
        return 1
    with open(header.path, "rb") as file:
        file.seek(header.pixel_offset)
        try:
            parse_basic_offsets(file)
            starts = [fragment[:2] for fragment in generate_fragments(file)]
        except (ValueError, struct.error) as error:
            raise ValueError(f"{header.path}: damaged compressed pixels ({error})") from error
    if header.syntax == RLELossless:  # one fragment per frame, without a marker
        return max(1, len(starts))
    return max(1, sum(start in (b"\xff\xd8", b"\xff\x4f") for start in starts))  # JPEG and JPEG-LS, JPEG 2000
