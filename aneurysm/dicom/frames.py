"""Reads the frames of one DICOM file, single-frame or multi-frame, each with its own position and rescale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID

from aneurysm.dicom.frame_count import count_frames
from aneurysm.dicom.functional_groups import group_numbers, group_texts, sequence_items
from aneurysm.dicom.header import FUNCTIONAL_GROUPS, MODALITY_LUT, Header

MAX_PIXELS = 8192 * 8192  # per frame; more means a damaged header
TISSUE_HU = (-500, 3000)
# Elements that can differ between the volumes of one series, the most distinctive first; see one_volume.
TRAITS = (
    "ComplexImageComponent",
    "ImageType",
    "ConvolutionKernel",
    "EchoTime",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "TriggerTime",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
    "frame",
    "SOPInstanceUID",
    "folder",
)
_IN_GROUPS = {  # their names in the functional groups of a multi-frame file
    "ImageType": "FrameType",
    "EchoTime": "EffectiveEchoTime",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "TriggerTime": "NominalCardiacTriggerDelayTime",
    "AcquisitionTime": "FrameAcquisitionDateTime",
}


@dataclass(frozen=True, slots=True)
class PixelStorage:
    """How the pixels of a file are stored, for the decoder."""

    path: Path
    syntax: UID
    offset: int | None
    n_bytes: int | None
    n_frames: int
    n_missing: int  # frames that the header declares but the truncated file does not hold
    rows: int
    cols: int
    bits_allocated: int
    bits_stored: int
    high_bit: int  # as in the header; anything but bits_stored - 1 is a contradiction
    signed: bool
    floats: bool
    padding: tuple[int, int] | None  # range of stored values (inclusive) that marks pixels outside the image
    padding_like_tissue: bool  # the padding value is also a value of tissue (0 is water, for example)
    lut: pydicom.Dataset | None  # contains a Modality LUT, which replaces the rescale from stored to physical values
    inverted: bool  # high values are dark (MONOCHROME1); never for CT, where the rescale gives Hounsfield units anyway

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.cols * self.bits_allocated // 8

    @property
    def stored_dtype(self) -> np.dtype:
        return np.dtype(f"{'f' if self.floats else 'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def dtype(self) -> np.dtype:
        """dtype of the array that decode_frame returns."""
        return self.stored_dtype if self.lut is None else np.dtype(np.uint16)

    @property
    def highest(self) -> int:
        """The highest value that the stored bits can hold."""
        return (1 << (self.bits_stored - self.signed)) - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a series. Lengths in millimetres, vectors in LPS; missing values are None.

    index            0-based frame in its file
    position         (3,) centre of the first pixel
    orientation      (6,) direction of increasing column index, then of increasing row index (DICOM PS3.3 C.7.6.2.1.1)
    spacing          (between rows, between columns)
    nominal_spacing  the same of the scan or at the detector, a fallback
    instance         InstanceNumber; in a multi-frame file the position in its stack, else the frame's index
    file_number      InConcatenationNumber or InstanceNumber of a multi-frame file; else 0
    location         SliceLocation
    traits           one for each of TRAITS; InstanceNumber is that of the file, frame is `index`
    """

    storage: PixelStorage
    index: int
    sop_uid: str
    series_uid: str
    modality: str
    instance: float | None
    file_number: float
    location: float | None
    traits: tuple[str | float | None, ...]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    nominal_spacing: tuple[float, ...] | None
    gap_mm: float | None
    thickness_mm: float | None
    slope: float | None
    intercept: float | None

    @property
    def name(self) -> str:
        """For messages: file name, and the frame if the file has several."""
        name = self.storage.path.name
        return name if self.storage.n_frames == 1 else f"{name} frame {self.index}"


def read_frames(header: Header) -> list[Frame]:
    """All frames of a file, in the file's order.

    Raises ValueError naming the file if its pixels are not grey values of a supported size and number of bits, or its
    number of frames is implausible (count_frames).
    """
    storage = _storage(header)
    shared, per_frame = _functional_groups(header)
    return [_frame(header, storage, i, shared, per_frame[i : i + 1]) for i in range(storage.n_frames)]


def _storage(header: Header) -> PixelStorage:
    rows, cols = int(header.number("Rows")), int(header.number("Columns"))
    bits = header.float_bits or int(header.number("BitsAllocated", 16))
    stored = bits if header.float_bits else int(header.number("BitsStored", bits))
    signed = bool(header.number("PixelRepresentation", 0))
    photometric = header.values.get("PhotometricInterpretation", "MONOCHROME2")
    if header.number("SamplesPerPixel", 1) != 1 or not photometric.startswith("MONOCHROME"):
        raise ValueError(f"{header.path}: expected grey values, found colour ({photometric})")
    if bits not in (8, 16, 32, 64) or (bits == 64) > header.float_bits or not 1 <= stored <= bits:
        raise ValueError(f"{header.path}: expected 8, 16 or 32 bits a pixel, found {bits} with {stored} stored")
    if rows * cols > MAX_PIXELS:
        raise ValueError(f"{header.path}: expected an image, found {rows} x {cols} pixels")
    n_groups = len(sequence_items(header.dataset, FUNCTIONAL_GROUPS[1]))
    n_frames, n_missing = count_frames(header, rows * cols * bits // 8, n_groups)
    return PixelStorage(
        path=header.path,
        syntax=header.syntax,
        offset=header.pixel_offset,
        n_bytes=header.pixel_bytes,
        n_frames=n_frames,
        n_missing=n_missing,
        rows=rows,
        cols=cols,
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=stored - 1 if header.float_bits else int(header.number("HighBit", stored - 1)),
        signed=signed,
        floats=header.float_bits > 0,
        padding=None if header.float_bits else _padding(header, signed),
        padding_like_tissue=_is_like_tissue(header),
        lut=header.dataset if sequence_items(header.dataset, MODALITY_LUT) else None,
        inverted=photometric == "MONOCHROME1" and header.values.get("Modality") != "CT",
    )


def _padding(header: Header, signed: bool) -> tuple[int, int] | None:
    value = header.number("PixelPaddingValue")
    if value is None:
        return None
    limit = header.number("PixelPaddingRangeLimit", value)
    ends = [int(v) - 65536 if signed and v >= 32768 else int(v) for v in (value, limit)]  # both are 16-bit values
    return min(ends), max(ends)


def _is_like_tissue(header: Header) -> bool:
    value = header.number("PixelPaddingValue")
    if value is None or header.values.get("Modality") != "CT":
        return False
    return TISSUE_HU[0] < value * header.number("RescaleSlope", 1) + header.number("RescaleIntercept", 0) < TISSUE_HU[1]


def _functional_groups(header: Header) -> tuple[list, list]:
    """The items of the shared and the per-frame functional groups (DICOM PS3.3 C.7.6.16)."""
    return tuple(sequence_items(header.dataset, tag) for tag in FUNCTIONAL_GROUPS)


def _frame(header: Header, storage: PixelStorage, index: int, shared: list, own: list) -> Frame:
    """One frame; its functional group takes precedence over the shared one, and both over the top-level elements."""
    groups = [*shared, *own]
    found, texts = (group_numbers(groups), group_texts(groups)) if groups else ({}, {})

    def vector(name: str, length: int) -> tuple[float, ...] | None:
        value = found.get(name, ())
        return value if len(value) == length else header.vector(name, length)

    def number(name: str) -> float | None:
        return found[name][0] if found.get(name) else header.number(name)

    def trait(name: str) -> str | float | None:
        inner = _IN_GROUPS.get(name, name)
        for value in (texts.get(inner), found.get(inner), header.values.get(name)):
            if value:
                return value if isinstance(value, str) else value[0]
        return None

    instance, file_number = header.number("InstanceNumber"), 0.0
    if storage.n_frames > 1:
        file_number = header.number("InConcatenationNumber", instance or 0.0)
        instance = found.get("InStackPositionNumber", (index,))[0]
    return Frame(
        storage=storage,
        index=index,
        sop_uid=header.values.get("SOPInstanceUID", ""),
        series_uid=header.values.get("SeriesInstanceUID", ""),
        modality=header.values.get("Modality", ""),
        instance=instance,
        file_number=file_number,
        location=header.number("SliceLocation"),
        traits=(
            *(trait(name) for name in TRAITS[:-3]),
            index,
            header.values.get("SOPInstanceUID"),
            str(storage.path.parent),
        ),
        position=vector("ImagePositionPatient", 3),
        orientation=vector("ImageOrientationPatient", 6),
        spacing=vector("PixelSpacing", 2),
        nominal_spacing=header.vector("NominalScannedPixelSpacing", 2) or header.vector("ImagerPixelSpacing", 2),
        gap_mm=number("SpacingBetweenSlices"),
        thickness_mm=number("SliceThickness"),
        slope=number("RescaleSlope") if storage.lut is None else None,
        intercept=number("RescaleIntercept") if storage.lut is None else None,
    )
