"""The frames of one DICOM file: one in a plain image, many in a multi-frame one, each with its own place and scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import UID

from aneurysm.data.frame_count import count_frames
from aneurysm.data.header import FUNCTIONAL_GROUPS, Header, usable

MAX_PIXELS = 8192 * 8192  # one frame; more is a damaged header


@dataclass(frozen=True, slots=True)
class PixelStorage:
    """How the pixels of a file are stored; what a decoder needs to know."""

    path: Path
    syntax: UID
    offset: int | None
    n_bytes: int | None
    n_frames: int
    rows: int
    cols: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    padding: tuple[int, int] | None  # stored values from..to that mark pixels outside the image
    inverted: bool  # high values are dark: MONOCHROME1, but for CT, where the rescale gives Hounsfield units anyway

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.cols * self.bits_allocated // 8

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def highest(self) -> int:
        """The highest value that the stored bits can hold."""
        return (1 << (self.bits_stored - self.signed)) - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a series. Lengths in millimetres, vectors in LPS; None where the file does not say it.

    index        0-based frame in its file
    position     (3,) centre of the first pixel
    orientation  (6,) direction of increasing column index, then of increasing row index (DICOM PS3.3 C.7.6.2.1.1)
    spacing      (between rows, between columns)
    order        what decides between images at one position: time point, acquisition, echo, instance
    """

    storage: PixelStorage
    index: int
    sop_uid: str
    series_uid: str
    instance: float | None
    order: tuple[float, ...]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    gap_mm: float | None
    thickness_mm: float | None
    slope: float | None
    intercept: float | None

    @property
    def name(self) -> str:
        """For messages: the file, and the frame where there are several."""
        name = self.storage.path.name
        return name if self.storage.n_frames == 1 else f"{name} frame {self.index}"


def read_frames(header: Header) -> list[Frame]:
    """All frames of a file, in the file's order.

    Raises ValueError naming the file where its pixels are not grey values that a series of slices can hold.
    """
    storage = _storage(header)
    shared, per_frame = _functional_groups(header)
    return [_frame(header, storage, i, shared, per_frame[i : i + 1]) for i in range(storage.n_frames)]


def _storage(header: Header) -> PixelStorage:
    rows, cols = int(header.number("Rows")), int(header.number("Columns"))
    bits = int(header.number("BitsAllocated", 16))
    stored = int(header.number("BitsStored", bits))
    signed = bool(header.number("PixelRepresentation", 0))
    photometric = header.values.get("PhotometricInterpretation", "MONOCHROME2")
    if header.number("SamplesPerPixel", 1) != 1 or not photometric.startswith("MONOCHROME"):
        raise ValueError(f"{header.path}: expected grey values, found colour ({photometric})")
    if bits not in (8, 16, 32) or not 1 <= stored <= bits:
        raise ValueError(f"{header.path}: expected 8, 16 or 32 bits a pixel, found {bits} with {stored} stored")
    if rows * cols > MAX_PIXELS:
        raise ValueError(f"{header.path}: expected an image, found {rows} x {cols} pixels")
    n_groups = len(sequence_items(header.dataset, FUNCTIONAL_GROUPS[1]))
    return PixelStorage(
        path=header.path,
        syntax=header.syntax,
        offset=header.pixel_offset,
        n_bytes=header.pixel_bytes,
        n_frames=count_frames(header, rows * cols * bits // 8, n_groups),
        rows=rows,
        cols=cols,
        bits_allocated=bits,
        bits_stored=stored,
        signed=signed,
        padding=_padding(header, signed),
        inverted=photometric == "MONOCHROME1" and header.values.get("Modality") != "CT",
    )


def _padding(header: Header, signed: bool) -> tuple[int, int] | None:
    value = header.number("PixelPaddingValue")
    if value is None:
        return None
    limit = header.number("PixelPaddingRangeLimit", value)
    ends = [int(v) - 65536 if signed and v >= 32768 else int(v) for v in (value, limit)]  # both have 16 bits
    return min(ends), max(ends)


def _functional_groups(header: Header) -> tuple[list, list]:
    """The items of the shared and of the per-frame functional groups (DICOM PS3.3 C.7.6.16)."""
    return tuple(sequence_items(header.dataset, tag) for tag in FUNCTIONAL_GROUPS)


def sequence_items(dataset: pydicom.Dataset | None, name: str | int) -> list[pydicom.Dataset]:
    """The items of a sequence, by keyword or tag; none where it is absent, is no sequence or cannot be read."""
    value = None if dataset is None else element_value(dataset, name)
    return list(value) if isinstance(value, pydicom.Sequence) else []


def _frame(header: Header, storage: PixelStorage, index: int, shared: list, own: list) -> Frame:
    """One frame; its own functional group wins over the shared one, and that one over the top of the file."""
    found = dict(_group_values([*shared, *own]))

    def vector(name: str, length: int) -> tuple[float, ...] | None:
        value = found.get(name, ())
        return value if len(value) == length else header.vector(name, length)

    def number(name: str) -> float | None:
        return found[name][0] if found.get(name) else header.number(name)

    instance = found.get("InStackPositionNumber", (index,))[0] if storage.n_frames > 1 else None
    instance = header.number("InstanceNumber") if instance is None else instance
    times = [number(name) for name in ("TemporalPositionIndex", "TemporalPositionIdentifier", "EchoTime")]
    order = (*times, header.number("AcquisitionNumber"), instance)
    return Frame(
        storage=storage,
        index=index,
        sop_uid=header.values.get("SOPInstanceUID", ""),
        series_uid=header.values.get("SeriesInstanceUID", ""),
        instance=instance,
        order=tuple(0.0 if value is None else value for value in order),
        position=vector("ImagePositionPatient", 3),
        orientation=vector("ImageOrientationPatient", 6),
        spacing=vector("PixelSpacing", 2),
        gap_mm=number("SpacingBetweenSlices"),
        thickness_mm=number("SliceThickness"),
        slope=number("RescaleSlope"),
        intercept=number("RescaleIntercept"),
    )


_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameContentSequence": ("InStackPositionNumber", "TemporalPositionIndex"),
}


def _group_values(items: list[pydicom.Dataset]) -> Iterator[tuple[str, tuple[float, ...]]]:
    for item in items:
        for group, names in _GROUPS.items():
            inner = _item(item, group)
            for name in names:
                value = _floats(inner, name)
                if value:
                    yield name, value


def _item(dataset: pydicom.Dataset, name: str) -> pydicom.Dataset:
    sequence = element_value(dataset, name)
    return sequence[0] if isinstance(sequence, pydicom.Sequence) and len(sequence) else pydicom.Dataset()


def _floats(dataset: pydicom.Dataset, name: str) -> tuple[float, ...]:
    """The numbers of an element; an element that holds none counts as absent."""
    value = element_value(dataset, name)
    try:
        numbers = tuple(map(float, value if isinstance(value, pydicom.multival.MultiValue | list) else [value]))
    except (TypeError, ValueError):
        return ()
    return numbers if all(map(usable, numbers)) else ()


def element_value(dataset: pydicom.Dataset, name: str | int) -> Any:
    """The value of an element; one that pydicom cannot read counts as absent."""
    try:
        return dataset[name].value if name in dataset else None
    except Exception:  # pydicom has an error of its own for each kind of damage
        return None
