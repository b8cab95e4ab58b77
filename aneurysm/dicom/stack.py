"""Stacks the frames of one series: one orientation, one size, sorted along the normal, one frame per position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aneurysm.dicom.frames import TRAITS, Frame
from aneurysm.dicom.geometry import Geometry, make_geometry, shear_mm, tilt_degrees
from aneurysm.dicom.image_kind import kind_of
from aneurysm.dicom.one_volume import NEAR, SAME_POSITION_MM, choose_volume, names_of, same_pixels
from aneurysm.dicom.orientation import find_orientation, orthogonal_units
from aneurysm.dicom.slice_order import open_places, order_without_positions, pseudo_positions

FEWEST = 5  # least number of images that can show a head
FALLBACK_PIXEL_MM = 0.5  # this and the next: usual values in the competition's data, for headers without these tags
FALLBACK_THIN_MM, FALLBACK_THICK_MM, THICK_UP_TO_FRAMES = 0.55, 5.0, 80


@dataclass(frozen=True)
class Stack:
    """Frames in slice order with their geometry; `twins` are frames left out, with the index of the frame that
    replaces them."""

    frames: tuple[Frame, ...]
    geometry: Geometry
    twins: tuple[tuple[Frame, int], ...]


def stack_frames(frames: Sequence[Frame], warnings: list[str]) -> Stack:
    """The stack of one volume from the largest consistent group of `frames`; adds to `warnings` what was left out or
    assumed. Raises ValueError as choose_volume."""
    frames, unplaced = _without_position(_without_copies(frames, warnings))
    frames = _largest_group(frames, warnings)
    orientation = find_orientation(frames[0].orientation, [frame.position for frame in frames], warnings)
    along = None if frames[0].position is None else _along(frames, orientation)
    if along is None or (len(frames) > 1 and np.ptp(along) <= SAME_POSITION_MM):
        stack, pixel_spacing = _stack_by_number(frames, orientation, warnings)
    else:
        stack, pixel_spacing = _stack_by_position(frames, along, orientation, unplaced, warnings)
    kept, positions, gap_mm, twins = stack
    shape = (len(kept), kept[0].storage.rows, kept[0].storage.cols)
    geometry = make_geometry(shape, positions, orientation, pixel_spacing, gap_mm)
    _warn_of_missing_frames(kept, geometry.spacing[0], warnings)
    _warn_of_elements(kept, warnings)
    return Stack(tuple(kept), geometry, tuple(twins))


def _warn_of_missing_frames(frames: list[Frame], spacing_mm: float, warnings: list[str]) -> None:
    for storage in {frame.storage.path: frame.storage for frame in frames if frame.storage.n_missing}.values():
        warnings.append(
            f"{storage.path.name}: {storage.n_missing} of {storage.n_frames + storage.n_missing} frames missing, about "
            f"{storage.n_missing * spacing_mm:.4g} mm: expected the file to be longer"
        )


def _warn_of_elements(frames: list[Frame], warnings: list[str]) -> None:
    """Warns of elements that contradict how the images are read."""
    odd = [frame for frame in frames if frame.storage.high_bit != frame.storage.bits_stored - 1]
    if odd:
        bits = odd[0].storage.bits_stored
        warnings.append(
            f"HighBit contradicts BitsStored in {len(odd)} images: expected {bits - 1}, found "
            f"{odd[0].storage.high_bit} ({odd[0].name}); the lowest {bits} bits are taken"
        )
    mosaics = [frame for frame in frames if "MOSAIC" in str(frame.traits[TRAITS.index("ImageType")]).upper()]
    if len(frames) > 1 and mosaics:
        warnings.append(f"expected a slice in each image, found many in {len(mosaics)} (ImageType MOSAIC)")


def _without_copies(frames: Sequence[Frame], warnings: list[str]) -> list[Frame]:
    """The frames without copies: those with equal SOP Instance UID, position and pixels."""
    first: dict[tuple, list[Frame]] = {}
    copies = []
    for frame in sorted(frames, key=lambda frame: len(frame.storage.path.parts)):
        others = first.setdefault((frame.sop_uid, frame.index, frame.position, frame.instance), [])
        if frame.sop_uid and any(same_pixels(other, frame) for other in others):
            copies.append(frame)
        else:
            others.append(frame)
    if copies:
        folders = ", ".join(sorted({frame.storage.path.parent.name for frame in copies}))
        warnings.append(f"{len(copies)} images are copies of others and count once: {names_of(copies)} (in {folders})")
    left = {id(frame) for frame in copies}
    return [frame for frame in frames if id(frame) not in left]


def _without_position(frames: list[Frame]) -> tuple[list[Frame], list[Frame]]:
    """(frames with a position, frames without), if the latter are fewer; else (all frames with position None, [])."""
    missing = [frame for frame in frames if frame.position is None]
    if not missing or 2 * len(missing) >= len(frames):
        return [replace(frame, position=None) for frame in frames] if missing else frames, []
    return [frame for frame in frames if frame.position is not None], missing


def _stack_by_number(frames: list[Frame], orientation: np.ndarray, warnings: list[str]) -> tuple[tuple, tuple]:
    """Stacks frames whose positions are missing or all equal, in the order of other elements."""
    kept = choose_volume(frames, pseudo_positions(frames), warnings)
    twins = [frame for i, frame in enumerate(frames) if i not in set(kept.tolist())]
    frames = [frames[i] for i in kept]
    order, name = order_without_positions(frames)
    if len(frames) > 1:
        why = f"all {len(frames)} images lie at one position" if frames[0].position else "image positions missing"
        warnings.append(f"{why}: sorted by {name}")
    kept = [frames[i] for i in order]
    by_number = {(frame.file_number, frame.instance): i for i, frame in enumerate(kept)}
    places = [(twin, by_number.get((twin.file_number, twin.instance))) for twin in twins]
    pixel_spacing = _pixel_spacing(kept, warnings)
    positions, gap_mm = _assumed_positions(kept, orientation, warnings)
    return (kept, positions, gap_mm, [(twin, at) for twin, at in places if at is not None]), pixel_spacing


def _stack_by_position(
    frames: list[Frame], along: np.ndarray, orientation: np.ndarray, unplaced: list[Frame], warnings: list[str]
) -> tuple[tuple, tuple]:
    """Stacks frames along the normal; inserts those of `unplaced` (without a position) that fill a gap."""
    chosen = choose_volume(frames, along, warnings)
    order = chosen[np.argsort(along[chosen], kind="stable")]
    kept, positions = [frames[i] for i in order], np.array([frames[i].position for i in order])
    if unplaced:
        kept, positions = _filled(kept, positions, unplaced, warnings)
    heights = positions @ np.cross(orientation[:3], orientation[3:])
    gap_mm = float(np.median(np.diff(heights))) if len(kept) > 1 else FALLBACK_THICK_MM
    nearest = [(i, int(np.argmin(np.abs(heights - along[i])))) for i in set(range(len(frames))) - set(chosen.tolist())]
    twins = [(frames[i], at) for i, at in sorted(nearest) if abs(heights[at] - along[i]) < NEAR * gap_mm]
    pixel_spacing = _pixel_spacing(kept, warnings)
    _warn_of_unevenness(positions, orientation, _stated_gap(kept), warnings)
    return (kept, positions, _stated_gap(kept) or FALLBACK_THICK_MM, twins), pixel_spacing


def _filled(
    kept: list[Frame], positions: np.ndarray, unplaced: list[Frame], warnings: list[str]
) -> tuple[list[Frame], np.ndarray]:
    """The stack with inserted images without a position that fill a gap; warns of these and of those left out."""
    fitting = [frame for frame in unplaced if _fits(replace(frame, position=kept[0].position), kept[0])]
    found = open_places(kept, positions, fitting)
    placed = {id(frame) for _, frame, _ in found}
    left_out = [frame for frame in unplaced if id(frame) not in placed]
    if found:
        texts = ", ".join(f"{frame.name} at {np.round(place, 2).tolist()}" for _, frame, place in found)
        warnings.append(f"image position missing: placed by instance number where a gap is open: {texts}")
    if left_out:
        n_all = len(kept) + len(unplaced)
        warnings.append(f"{len(left_out)} of {n_all} images left out, position missing: {names_of(left_out)}")
    for at, frame, place in sorted(found, key=lambda one: (-one[0], -(one[1].instance or 0))):
        kept = [*kept[:at], frame, *kept[at:]]
        positions = np.insert(positions, at, place, axis=0)
    return kept, positions


def _largest_group(frames: Sequence[Frame], warnings: list[str]) -> list[Frame]:
    """The largest group of frames with the same series, size, orientation and pixel spacing. Plain images come before
    phase images, reformats and localizers, if there are at least FEWEST and a tenth of the largest group."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if _fits(frame, group[0]):
                group.append(frame)
                break
        else:
            groups.append([frame])
    enough = max(FEWEST, max(map(len, groups)) / 10)
    largest = min(groups, key=lambda group: (kind_of(group[0]) if len(group) >= enough else 9, -len(group)))
    left_out = [frame for group in groups if group is not largest for frame in group]
    if left_out:
        warnings.append(
            f"{len(left_out)} of {len(frames)} images left out, of another series, size, orientation or pixel spacing "
            f"than the largest group of {len(largest)}: {names_of(left_out)}"
        )
    return largest


def _fits(a: Frame, b: Frame) -> bool:
    if a.series_uid != b.series_uid or (a.storage.rows, a.storage.cols) != (b.storage.rows, b.storage.cols):
        return False
    if (a.position is None) != (b.position is None):
        return False
    if a.orientation != b.orientation and not _alike(orthogonal_units(a.orientation), orthogonal_units(b.orientation)):
        return False
    return a.spacing == b.spacing or _alike(a.spacing, b.spacing)


def _alike(a: Sequence[float] | None, b: Sequence[float] | None) -> bool:
    """Whether two vectors agree within 2 % plus 0.02, or are both missing."""
    if a is None or b is None:
        return a is b
    return bool(np.allclose(a, b, rtol=0.02, atol=0.02))


def _along(frames: list[Frame], orientation: np.ndarray) -> np.ndarray:
    """(n,) position of each frame along the normal, in millimetres."""
    return np.array([frame.position for frame in frames]) @ np.cross(orientation[:3], orientation[3:])


def _pixel_spacing(frames: list[Frame], warnings: list[str]) -> tuple[float, float]:
    stated, nominal = frames[0].spacing, frames[0].nominal_spacing
    if _is_spacing(stated):
        return float(stated[0]), float(stated[1])
    state = "missing" if stated is None else f"unusable ({stated})"
    if _is_spacing(nominal):
        warnings.append(f"pixel spacing {state}: nominal spacing of {nominal[0]:g} x {nominal[1]:g} mm taken")
        return float(nominal[0]), float(nominal[1])
    warnings.append(f"pixel spacing {state}: taken as {FALLBACK_PIXEL_MM} mm")
    return FALLBACK_PIXEL_MM, FALLBACK_PIXEL_MM


def _is_spacing(stated: tuple[float, ...] | None) -> bool:
    return stated is not None and min(stated) >= 0.05 and max(stated) <= min(20, 20 * min(stated))


def _stated_gap(frames: list[Frame]) -> float | None:
    """Slice spacing in millimetres from the header, or None."""
    stated = (frames[0].gap_mm, frames[0].thickness_mm)
    return next((abs(mm) for mm in stated if mm is not None and 0.05 <= abs(mm) <= 30), None)


def _assumed_positions(frames: list[Frame], orientation: np.ndarray, warnings: list[str]) -> tuple[np.ndarray, float]:
    """Evenly spaced positions along the normal, for frames without positions or with the same one."""
    gap_mm = _stated_gap(frames)
    if gap_mm is None:
        gap_mm = FALLBACK_THICK_MM if len(frames) <= THICK_UP_TO_FRAMES else FALLBACK_THIN_MM
        warnings.append(f"distance between slices unknown: taken as {gap_mm} mm")
    start = np.array(frames[0].position or (0.0, 0.0, 0.0))
    normal = np.cross(orientation[:3], orientation[3:])
    return start + np.arange(len(frames))[:, None] * gap_mm * normal, gap_mm


def _warn_of_unevenness(
    positions: np.ndarray, orientation: np.ndarray, header_mm: float | None, warnings: list[str]
) -> None:
    if len(positions) < 2:
        return
    gaps = np.diff(positions @ np.cross(orientation[:3], orientation[3:]))
    median = float(np.median(gaps))
    uneven = np.abs(gaps - median) > max(0.05 * median, 0.02)
    if uneven.any():
        kinds = sorted({round(float(gap), 2) for gap in gaps})
        text = ", ".join(map(str, kinds[:6])) + (" ..." if len(kinds) > 6 else "")
        missing_mm = float((gaps - median)[gaps > 1.5 * median].sum())
        lost = f"; {missing_mm:.4g} mm are missing in gaps larger than the usual {median:.4g} mm" if missing_mm else ""
        warnings.append(f"slices are unevenly spaced: gaps of {text} mm{lost}")
    tilt = tilt_degrees(positions, orientation)
    if np.abs(shear_mm(positions, orientation)).max() > 1:
        warnings.append(f"gantry tilt of {tilt:.1f} degrees: images are shifted against each other")
    if header_mm is not None and (header_mm > 3 * median or header_mm < median / 3):
        warnings.append(
            f"{header_mm:g} mm between slices in the header, {median:g} mm by positions: positions are used"
        )
