"""The header elements that are needed to read images, and how their values become text or tuples of finite numbers."""

from __future__ import annotations

import math
import struct
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue

_TEXT = (
    "SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID PatientID Modality "
    "PhotometricInterpretation ImageType ComplexImageComponent ConvolutionKernel"
).split()
_DECIMAL = (
    "NumberOfFrames InstanceNumber SeriesNumber AcquisitionNumber TemporalPositionIdentifier EchoTime TriggerTime "
    "AcquisitionTime ContentTime ImagePositionPatient ImageOrientationPatient SliceLocation PixelSpacing "
    "NominalScannedPixelSpacing ImagerPixelSpacing SliceThickness SpacingBetweenSlices RescaleSlope RescaleIntercept"
).split()
_BINARY = (
    "Rows Columns SamplesPerPixel BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue "
    "PixelPaddingRangeLimit InConcatenationNumber"
).split()


def _text(value: Any, _: bool) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1").strip("\0 ")
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def _decimals(value: Any, _: bool) -> tuple[float, ...]:
    """Finite numbers stored as text (VR DS or IS, DICOM PS3.5 section 6.2); accepts decimal commas."""
    if isinstance(value, bytes):
        value = [text.replace(",", ".") for text in value.decode("ascii").strip("\0 ").split("\\") if text]
    return _finite(value)


def _shorts(value: Any, little_endian: bool) -> tuple[float, ...]:
    """Numbers stored as unsigned 16-bit integers (VR US, or SS read as US)."""
    if isinstance(value, bytes):
        value = struct.unpack(f"{'<' if little_endian else '>'}{len(value) // 2}H", value)
    return _finite(value)


def _finite(value: Any) -> tuple[float, ...]:
    numbers = tuple(map(float, value if isinstance(value, list | tuple | MultiValue) else (value,)))
    return numbers if all(map(usable, numbers)) else ()


def usable(number: float) -> bool:
    """Whether a number from a header is finite and small enough that sums do not overflow."""
    return math.isfinite(number) and abs(number) < 1e12


# Tag -> keyword and converter; the converter takes raw bytes or pydicom's value, and whether they are little endian.
WANTED = {
    int(tag_for_keyword(name)): (name, convert)
    for names, convert in ((_TEXT, _text), (_DECIMAL, _decimals), (_BINARY, _shorts))
    for name in names
}
