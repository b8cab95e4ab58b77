"""Orders images without positions, and finds the gaps in a stack that single images without position fill."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from aneurysm.dicom.frames import TRAITS, Frame

_TIME = TRAITS.index("AcquisitionTime")
_OPEN = 0.25  # of the slice spacing: tolerance between a gap and the width that its missing images need


def order_without_positions(frames: Sequence[Frame]) -> tuple[list[int], str]:
    """Indices of the frames in slice order, and the name of the sort key.

    The key is the first of instance number, slice location and acquisition time that differs in all frames. If none
    does, all three are used in turn, then file names in natural order (IM2 before IM10). Frames of one multi-frame file
    stay together.
    """
    elements = {
        "instance number": [frame.instance for frame in frames],
        "slice location": [frame.location for frame in frames],
        "acquisition time": [frame.traits[_TIME] for frame in frames],
    }
    files = [frame.file_number for frame in frames]
    name = next((name for name, values in elements.items() if _differ(list(zip(files, values, strict=True)))), "")
    columns = [elements[name]] if name else list(elements.values())

    def key(i: int) -> tuple:
        numbers = [np.inf if not isinstance(value[i], int | float) else value[i] for value in columns]
        frame = frames[i]
        return files[i], *numbers, _natural(frame.storage.path.name), str(frame.storage.path), frame.index

    return sorted(range(len(frames)), key=key), f"{name or 'instance number'}, then by name"


def pseudo_positions(frames: Sequence[Frame]) -> np.ndarray:
    """(n,) substitutes for positions along the normal, to find repeated images: slice locations in millimetres if all
    frames have one and they differ, else ranks of (file number, instance number), else the frames' indices."""
    locations = [frame.location for frame in frames]
    if None not in locations and len(set(locations)) > 1:
        return np.array(locations, float)
    numbers = [(frame.file_number, np.inf if frame.instance is None else frame.instance) for frame in frames]
    if len(set(numbers)) == 1 or any(frame.instance is None for frame in frames):
        return np.arange(len(frames), dtype=float)
    return np.array([sorted(set(numbers)).index(number) for number in numbers], float)


def open_places(
    frames: Sequence[Frame], positions: np.ndarray, missing: Sequence[Frame]
) -> list[tuple[int, Frame, np.ndarray]]:
    """Where images without a position belong in a sorted stack: (index of the next frame, frame, position).

    Requires that the instance number lies between those of two neighbours, and that the gap between them is as wide as
    their instance numbers imply; `positions` (n, 3) are those of `frames`.
    """
    by_number = {frame.instance: i for i, frame in enumerate(frames)}
    found = []
    if None in by_number or len(by_number) < len(frames) or len(frames) < 3:
        return found
    numbers = np.array(sorted(by_number))
    typical_mm = np.median(np.linalg.norm(np.diff(positions, axis=0), axis=1))
    wanted = [frame.instance for frame in missing]
    for frame in missing:
        if frame.instance is None or frame.instance in by_number or wanted.count(frame.instance) > 1:
            continue
        at = int(np.searchsorted(numbers, frame.instance))
        if at in (0, len(numbers)):
            continue
        below, above = by_number[numbers[at - 1]], by_number[numbers[at]]
        n_steps = numbers[at] - numbers[at - 1]
        way = positions[above] - positions[below]
        if abs(above - below) == 1 and abs(np.linalg.norm(way) - n_steps * typical_mm) < _OPEN * typical_mm:
            place = positions[below] + way * (frame.instance - numbers[at - 1]) / n_steps
            found.append((max(above, below), frame, place))
    return found


def _differ(values: list[tuple[float, float | str | None]]) -> bool:
    return len(set(values)) == len(values) and all(isinstance(value, int | float) for _, value in values)


def _natural(name: str) -> tuple:
    """A file name split into text and numbers, as a key for natural order."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part)
