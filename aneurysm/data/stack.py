"""The frames of one series put in order: one orientation, one size, sorted along the normal, one at each position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aneurysm.data.frames import Frame
from aneurysm.data.geometry import Geometry, make_geometry, shear_mm, tilt_degrees

FALLBACK_PIXEL_MM = 0.5  # the usual values where every tag is gone (COMPETITION figures)
FALLBACK_THIN_MM, FALLBACK_THICK_MM, THICK_UP_TO_FRAMES = 0.55, 5.0, 80
SAME_POSITION_MM = 0.01


@dataclass(frozen=True)
class Stack:
    """Frames in slice order with their geometry; `twins` are frames left out for another one at their position."""

    frames: tuple[Frame, ...]
    geometry: Geometry
    twins: tuple[tuple[Frame, int], ...]


def stack_frames(frames: Sequence[Frame], warnings: list[str]) -> Stack:
    """The stack of the largest consistent group of `frames`; what was left out or assumed is added to `warnings`."""
    frames = _largest_group(frames, warnings)
    orientation = _orientation(frames, warnings)
    kept, twins = _sorted_by_position(frames, orientation, warnings)
    pixel_spacing = _pixel_spacing(kept, warnings)
    if kept[0].position is None or len(set(_places(_along(kept, orientation)))) < len(kept):
        positions, gap_mm = _assumed_positions(kept, orientation, warnings)
    else:
        positions, gap_mm = np.array([frame.position for frame in kept]), _said_gap(kept) or FALLBACK_THICK_MM
        _warn_of_unevenness(positions, orientation, _said_gap(kept), warnings)
    shape = (len(kept), kept[0].storage.rows, kept[0].storage.cols)
    return Stack(tuple(kept), make_geometry(shape, positions, orientation, pixel_spacing, gap_mm), tuple(twins))


def _largest_group(frames: Sequence[Frame], warnings: list[str]) -> list[Frame]:
    """The frames that share series, size, orientation and pixel spacing with most others."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if _fits(frame, group[0]):
                group.append(frame)
                break
        else:
            groups.append([frame])
    largest = max(groups, key=len)
    left_out = [frame for group in groups if group is not largest for frame in group]
    if left_out:
        warnings.append(
            f"{len(left_out)} of {len(frames)} images left out, of another series, size, orientation or pixel spacing "
            f"than the largest group of {len(largest)}: {_names(left_out)}"
        )
    return largest


def _fits(a: Frame, b: Frame) -> bool:
    if a.series_uid != b.series_uid or (a.storage.rows, a.storage.cols) != (b.storage.rows, b.storage.cols):
        return False
    if (a.position is None) != (b.position is None):
        return False
    return _alike(a.orientation, b.orientation) and _alike(a.spacing, b.spacing)


def _alike(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> bool:
    """Whether two vectors agree to 2 %, or are both missing."""
    return a == b or (a is not None and b is not None and np.allclose(a, b, rtol=0.02, atol=0.02))


def _orientation(frames: list[Frame], warnings: list[str]) -> np.ndarray:
    """(6,) two orthogonal unit vectors; assumed where the header has none that are."""
    said = frames[0].orientation
    if said is not None:
        along_row, along_column = np.array(said[:3]), np.array(said[3:])
        lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
        if min(lengths) > 0.9 and max(lengths) < 1.1 and abs(along_row @ along_column) < 0.02:
            along_row = along_row / lengths[0]
            along_column = along_column - (along_column @ along_row) * along_row
            return np.concatenate([along_row, along_column / np.linalg.norm(along_column)])
    moves = np.ptp([frame.position for frame in frames], axis=0) if frames[0].position is not None else np.zeros(3)
    axis = int(np.argmax(moves)) if moves.max() > 0 else 2
    plane = ("sagittal", "coronal", "axial")[axis]
    warnings.append(f"image orientation {'missing' if said is None else f'unusable ({said})'}: taken as {plane}")
    return np.array([[0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1], [1, 0, 0, 0, 1, 0]][axis], float)


def _along(frames: list[Frame], orientation: np.ndarray) -> np.ndarray:
    """(n,) position of each frame along the normal, in millimetres."""
    return np.array([frame.position for frame in frames]) @ np.cross(orientation[:3], orientation[3:])


def _places(along: np.ndarray) -> np.ndarray:
    """(n,) number of the place at which each frame lies, counted upward; equal positions share one."""
    order = np.argsort(along, kind="stable")
    places = np.empty(len(along), int)
    places[order] = np.cumsum(np.diff(along[order], prepend=along[order[0]]) > SAME_POSITION_MM)
    return places


def _sorted_by_position(
    frames: list[Frame], orientation: np.ndarray, warnings: list[str]
) -> tuple[list[Frame], list[tuple[Frame, int]]]:
    """Frames along the normal, the first in time at each position; by instance number where positions do not tell."""
    frames = sorted(frames, key=lambda f: (f.order, f.storage.path.name, f.index))
    by_number = sorted(frames, key=lambda f: (f.instance is None, f.instance or 0, f.storage.path.name, f.index))
    if frames[0].position is None:
        if len(frames) > 1:
            warnings.append("image positions missing: sorted by instance number, then by name")
        return by_number, []
    places = _places(_along(frames, orientation))
    first = np.unique(places, return_index=True)[1]  # frames come first in time, whatever the noise of positions
    if len(first) == 1 and len(frames) > 1:
        warnings.append(f"all {len(frames)} images lie at one position: sorted by instance number, then by name")
        return by_number, []
    twins = [(frames[i], int(places[i])) for i in sorted(set(range(len(frames))) - set(first.tolist()))]
    if twins:
        warnings.append(
            f"{len(twins)} images repeat the position of another: the first in time was kept, "
            f"left out were {_names([frame for frame, _ in twins])}"
        )
    return [frames[i] for i in first], twins


def _pixel_spacing(frames: list[Frame], warnings: list[str]) -> tuple[float, float]:
    said = frames[0].spacing
    if said is not None and all(0.05 <= mm <= 20 for mm in said):
        return float(said[0]), float(said[1])
    state = "missing" if said is None else f"unusable ({said})"
    warnings.append(f"pixel spacing {state}: taken as {FALLBACK_PIXEL_MM} mm")
    return FALLBACK_PIXEL_MM, FALLBACK_PIXEL_MM


def _said_gap(frames: list[Frame]) -> float | None:
    """Distance between slices in millimetres as the header says it, or None."""
    said = (frames[0].gap_mm, frames[0].thickness_mm)
    return next((abs(mm) for mm in said if mm is not None and 0.05 <= abs(mm) <= 30), None)


def _assumed_positions(frames: list[Frame], orientation: np.ndarray, warnings: list[str]) -> tuple[np.ndarray, float]:
    """Evenly spaced positions along the normal, for frames that have none or one for all."""
    gap_mm = _said_gap(frames)
    if gap_mm is None:
        gap_mm = FALLBACK_THICK_MM if len(frames) <= THICK_UP_TO_FRAMES else FALLBACK_THIN_MM
        warnings.append(f"distance between slices unknown: taken as {gap_mm} mm")
    start = np.array(frames[0].position or (0.0, 0.0, 0.0))
    normal = np.cross(orientation[:3], orientation[3:])
    return start + np.arange(len(frames))[:, None] * gap_mm * normal, gap_mm


def _warn_of_unevenness(
    positions: np.ndarray, orientation: np.ndarray, said_mm: float | None, warnings: list[str]
) -> None:
    if len(positions) < 2:
        return
    gaps = np.diff(positions @ np.cross(orientation[:3], orientation[3:]))
    median = float(np.median(gaps))
    uneven = np.abs(gaps - median) > max(0.05 * median, 0.02)
    if uneven.any():
        kinds = sorted({round(float(gap), 2) for gap in gaps})
        text = ", ".join(map(str, kinds[:6])) + (" ..." if len(kinds) > 6 else "")
        warnings.append(f"slices are unevenly spaced: gaps of {text} mm")
    tilt = tilt_degrees(positions, orientation)
    if np.abs(shear_mm(positions, orientation)).max() > 1:
        warnings.append(f"gantry tilt of {tilt:.1f} degrees: images are shifted against each other")
    if said_mm is not None and (said_mm > 3 * median or said_mm < median / 3):
        warnings.append(f"header says {said_mm:g} mm between slices, positions say {median:g} mm: positions hold")


def _names(frames: list[Frame]) -> str:
    names = [frame.name for frame in frames]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
