"""Reads frame attributes from the functional groups of a multi-frame file; damaged elements count as missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydicom

from aneurysm.dicom.elements import usable

_NUMBERS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameContentSequence": ("InStackPositionNumber", "TemporalPositionIndex", "FrameAcquisitionNumber"),
    "MREchoSequence": ("EffectiveEchoTime",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
}
_TEXTS = {
    "FrameContentSequence": ("FrameAcquisitionDateTime",),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
}


def group_numbers(items: list[pydicom.Dataset]) -> dict[str, tuple[float, ...]]:
    """The numbers in functional groups, by keyword; the last item that has a keyword wins."""
    return {name: value for name, inner in _elements(items, _NUMBERS) if (value := _floats(inner, name))}


def group_texts(items: list[pydicom.Dataset]) -> dict[str, str]:
    """The texts by keyword, several values joined by backslashes as in the file; otherwise as group_numbers."""
    found = {}
    for name, inner in _elements(items, _TEXTS):
        value = element_value(inner, name)
        if value:
            found[name] = "\\".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str(value)
    return found


def _elements(items: list[pydicom.Dataset], groups: dict[str, tuple]) -> Iterator[tuple[str, pydicom.Dataset]]:
    for item in items:
        for group, names in groups.items():
            inner = _item(item, group)
            if inner is not None:
                yield from ((name, inner) for name in names)


def _item(dataset: pydicom.Dataset, name: str) -> pydicom.Dataset | None:
    sequence = element_value(dataset, name)
    return sequence[0] if isinstance(sequence, pydicom.Sequence) and len(sequence) else None


def sequence_items(dataset: pydicom.Dataset | None, name: str | int) -> list[pydicom.Dataset]:
    """The items of a sequence, by keyword or tag; [] if it is absent, not a sequence or unreadable."""
    value = None if dataset is None else element_value(dataset, name)
    return list(value) if isinstance(value, pydicom.Sequence) else []


def _floats(dataset: pydicom.Dataset, name: str) -> tuple[float, ...]:
    """The numbers of an element; () if it is absent or any value is not a usable number."""
    value = element_value(dataset, name)
    try:
        numbers = tuple(map(float, value if isinstance(value, pydicom.multival.MultiValue | list) else [value]))
    except (TypeError, ValueError):
        return ()
    return numbers if all(map(usable, numbers)) else ()


def element_value(dataset: pydicom.Dataset, name: str | int) -> Any:
    """The value of an element; None if it is absent or pydicom cannot read it."""
    try:
        return dataset[name].value if name in dataset else None
    except Exception:  # pydicom raises a different error for each kind of damage
        return None
