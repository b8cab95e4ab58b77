"""How many frames a DICOM file holds, and what no sound file declares."""

from __future__ import annotations

import struct

from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.uid import CTImageStorage, MRImageStorage, RLELossless

from aneurysm.dicom.header import Header

ONE_FRAME_CLASSES = (CTImageStorage, MRImageStorage)
_ITEM = 0xE000FFFE  # as a little endian number
MAX_FRAMES = 2**15  # of one file
MAX_EXPANSION = 10_000  # decoded bytes for each byte of a compressed file; a blank slice of 512 x 512 has 600
MAX_DECODED = 2**32  # bytes of a compressed file's frames together: 8,192 slices of 512 x 512


def count_frames(header: Header, frame_bytes: int, listed: int) -> tuple[int, int]:
    """(number of frames of `frame_bytes` decoded bytes, number missing), by what is there rather than by what
    NumberOfFrames says.

    `listed` are those that have a functional group. Raises ValueError naming the file where it is too short for even
    one, or where frames are declared that it cannot hold: memory would be taken for them.
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
    """Fragments that lie whole in a compressed file that is cut short; `n_frames` where it is not (or is damaged
    otherwise, which the decoder tells)."""
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
    """Frames of a compressed file that does not say how many: each begins with its codec's mark (DICOM PS3.5 A.4)."""
    if header.values.get("SOPClassUID") in ONE_FRAME_CLASSES or header.pixel_offset is None:
        return 1
    with open(header.path, "rb") as file:
        file.seek(header.pixel_offset)
        try:
            parse_basic_offsets(file)
            starts = [fragment[:2] for fragment in generate_fragments(file)]
        except (ValueError, struct.error) as error:
            raise ValueError(f"{header.path}: damaged compressed pixels ({error})") from error
    if header.syntax == RLELossless:  # one fragment a frame, without a mark
        return max(1, len(starts))
    return max(1, sum(start in (b"\xff\xd8", b"\xff\x4f") for start in starts))  # JPEG and JPEG-LS, JPEG 2000
