"""Encodes the DICOM files of a series; encodes shared elements once, so that a file takes well below 1 ms."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from rle.rle import encode_segment

_SYNTAXES = {"rle": RLELossless, "explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian}


def make_uid(*parts: object) -> str:
    """A UID of 64 characters (the maximum, DICOM PS3.5 section 9.1) that depends only on `parts`."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
    return f"1.2.826.0.1.3680043.8.498.{int(digest, 16) % (9 * 10**37) + 10**37}"


class SeriesWriter:
    """Writes the <SOPInstanceUID>.dcm files of one series (DICOM PS3.10 section 7.1) into `folder`."""

    def __init__(self, folder: Path, shared: Dataset, syntax: str, other_meta_uid: bool):
        """shared: elements of all files; syntax: rle, explicit or implicit; other_meta_uid: a wrong UID in the meta."""
        self.folder, self.syntax, self.other_meta_uid = folder, syntax, other_meta_uid
        self.shared = _encoded(shared, implicit=syntax == "implicit")
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\x00\x01"
        meta.MediaStorageSOPClassUID = shared.SOPClassUID
        meta.TransferSyntaxUID = _SYNTAXES[syntax]
        meta.ImplementationClassUID = make_uid("phantom")
        self.meta = _encoded(meta, implicit=False)

    def write(self, own: Dataset, frames: np.ndarray) -> None:
        """Writes one file of 16-bit integers (frames, rows, columns); `own`: its own elements, with SOPInstanceUID."""
        uid = own.SOPInstanceUID
        if self.syntax == "rle":
            own.PixelData = encapsulate([run_lengths(frame) for frame in frames], has_bot=False)
        else:
            own.PixelData = frames.tobytes()
        own["PixelData"].VR, own["PixelData"].is_undefined_length = "OW", self.syntax == "rle"
        elements = self.shared | _encoded(own, implicit=self.syntax == "implicit")
        body = b"".join(elements[tag] for tag in sorted(elements))
        (self.folder / f"{uid}.dcm").write_bytes(bytes(128) + b"DICM" + self._meta_bytes(uid) + body)

    def _meta_bytes(self, uid: str) -> bytes:
        own, length = FileMetaDataset(), FileMetaDataset()
        own.MediaStorageSOPInstanceUID = make_uid(uid, "before anonymisation") if self.other_meta_uid else uid
        elements = self.meta | _encoded(own, implicit=False)
        body = b"".join(elements[tag] for tag in sorted(elements))
        length.FileMetaInformationGroupLength = len(body)
        return b"".join(_encoded(length, implicit=False).values()) + body


def run_lengths(frame: np.ndarray) -> bytes:
    """Encodes a 16-bit frame (rows, columns) as RLE Lossless (DICOM PS3.5 annex G): high bytes, then low bytes.

    Same bytes as from rle.rle.encode_frame in a fifth of the time.
    """
    octets = np.ascontiguousarray(frame).view(np.uint8).reshape(*frame.shape, 2)
    high, low = (encode_segment(octets[..., byte].tobytes(), frame.shape[1]) for byte in (1, 0))
    return struct.pack("<16I", 2, 64, 64 + len(high), *[0] * 13) + high + low


def _encoded(dataset: Dataset, implicit: bool) -> dict[int, bytes]:
    """Little-endian bytes of each element by tag; joined in tag order, they are the encoded data set."""
    encoded = {}
    for element in dataset:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
        write_data_element(buffer, element)
        encoded[int(element.tag)] = buffer.getvalue()
    return encoded
