"""Intensity windows of MR series by z-score or header, besides the first system's robust percentiles."""

from __future__ import annotations

import numpy as np
import pydicom

from aneurysm.dicom.frames import Frame
from aneurysm.dicom.functional_groups import element_value, sequence_items
from aneurysm.dicom.intensity import Window
from aneurysm.dicom.series import Series, whole_header

Z_LOW, Z_HIGH = -2.0, 6.0  # standard deviations of the head; vessels in a TOF angiogram lie 4 to 8 above its mean
_WANTED = ["WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"]
_GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]


def zscore_window(values: np.ndarray, head: np.ndarray) -> Window:
    """From Z_LOW to Z_HIGH standard deviations around the mean of the head (a mask of the shape of `values`).

    If the mask is empty, all pixels count.
    """
    values = values[head] if head.any() else values
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)) or 1.0
    return Window(mean + Z_LOW * deviation, mean + Z_HIGH * deviation)


def voi_window(series: Series) -> Window | None:
    """The window that the header of the middle image recommends (DICOM PS3.3 C.11.2), or None if it has none.

    The first of several windows counts. A sigmoid is treated as the line through its centre. A table (VOI LUT Sequence)
    is ignored, with a warning in the series.
    """
    frame = series.frames[len(series.frames) // 2]
    header = _voi_of(frame)
    centre, width = _first_number(header, "WindowCenter"), _first_number(header, "WindowWidth")
    function = str(element_value(header, "VOILUTFunction") or "LINEAR")
    if centre is None or width is None or width < 1 and function == "LINEAR" or width <= 0:
        if "VOILUTSequence" in header:
            series.warnings.append("the header's VOI LUT is a table, not a window: left out")
        return None
    if function == "LINEAR":  # C.11.2.1.2.1: from centre - 0.5 - (width - 1) / 2 to centre - 0.5 + (width - 1) / 2
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    low, high = centre - width / 2, centre + width / 2
    return Window(-high, -low) if frame.storage.inverted else Window(low, high)


def _voi_of(frame: Frame) -> pydicom.Dataset:
    """The dataset with the frame's window: its own functional group, the shared one, or the top level."""
    header = whole_header(frame.storage.path, _WANTED + _GROUPS)
    shared, own = (sequence_items(header, name) for name in _GROUPS)
    for group in [*own[frame.index : frame.index + 1], *shared[:1]]:
        found = sequence_items(group, "FrameVOILUTSequence")
        if found:
            return found[0]
    return header


def _first_number(dataset: pydicom.Dataset, name: str) -> float | None:
    value = element_value(dataset, name)
    first = value[0] if isinstance(value, pydicom.multival.MultiValue) and len(value) else value
    try:
        return float(first) if np.isfinite(float(first)) else None
    except (TypeError, ValueError):
        return None
