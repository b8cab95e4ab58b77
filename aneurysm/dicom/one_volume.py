"""Selects one volume from a series that holds several, with images at the same or interleaved positions.

Goes through the traits of the images (frames.TRAITS), the most distinctive first. Groups of images with different
values compete if they lie at the same or interleaved positions. Of competing groups the best one is kept, plus groups
that do not compete with it: an acquisition number that changes half-way up the head does not split the volume. Criteria
in order:

    complete               at least 80 % of the longest extent in mm and a quarter of the largest number of images
    magnitude, original    before phase, real and imaginary; before derived; these before MIP, MPR, localizers
    CT: contrast           most pixels of 130 to 600 HU; of several kernels the softest, that is, least noisy one
    the first              lowest echo, time point, acquisition, time, instance number
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aneurysm.dicom.frames import TRAITS, Frame
from aneurysm.dicom.image_kind import text_kind
from aneurysm.dicom.intensity import header_rescale
from aneurysm.dicom.pixels import decode_frame

SAME_POSITION_MM = 0.01
WHOLE = 0.8  # of the longest extent, in millimetres
NEAR = 0.75  # of the slice spacing: closer images compete
VESSEL_HU = (130, 600)
SAMPLES = 5  # images of each group that are decoded to compare contrast or noise


@dataclass(frozen=True)
class _Group:
    """Images with the same value of a trait: their indices, positions along the normal, and kind (see text_kind)."""

    value: str | float
    members: np.ndarray
    along: np.ndarray
    kind: int

    @property
    def gap_mm(self) -> float | None:
        gaps = np.diff(np.unique(self.along.round(2)))
        return float(np.median(gaps)) if len(gaps) else None

    @property
    def extent_mm(self) -> float:
        return float(np.ptp(self.along)) + (self.gap_mm or 0.0)


def choose_volume(frames: Sequence[Frame], along: np.ndarray, warnings: list[str]) -> np.ndarray:
    """(m,) increasing indices of the selected frames, at most one per position; `along` (n,) in millimetres or slices.

    Adds a warning that says which images were left out, and why. Raises ValueError if different images share most
    positions and no element separates the volumes.
    """
    kept, reasons = np.arange(len(frames)), []
    for number, name in enumerate(TRAITS):
        groups = _groups(frames, along, kept, number)
        chosen = _compatible(groups, frames, name)
        members = np.concatenate([group.members for group in chosen])
        if len(members) < len(kept):
            kept = np.sort(members)
            reasons.append(f"{name} {', '.join(str(group.value) for group in chosen)}")
    kept = _one_at_each_place(frames, along, kept)
    if len(kept) < len(frames):
        left_out = [frames[i] for i in sorted(set(range(len(frames))) - set(kept.tolist()))]
        warnings.append(
            f"{len(left_out)} images repeat the position of another or lie between others: kept was "
            f"{'one volume, of ' + '; '.join(reasons) if reasons else 'the first at each'}, left out were "
            f"{names_of(left_out)}"
        )
    return kept


def names_of(frames: Sequence[Frame]) -> str:
    """The first five names, for messages."""
    names = [frame.name for frame in frames]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def places_of(along: np.ndarray) -> np.ndarray:
    """(n,) rank of each frame's position, from 0; equal positions share a rank."""
    order = np.argsort(along, kind="stable")
    places = np.empty(len(along), int)
    places[order] = np.cumsum(np.diff(along[order], prepend=along[order[0]]) > SAME_POSITION_MM)
    return places


def _groups(frames: Sequence[Frame], along: np.ndarray, kept: np.ndarray, number: int) -> list[_Group]:
    """The images grouped by the value of a trait. Numbers that differ from image to image, such as times, are sorted
    instead: a new volume begins when a position repeats."""
    values = [frames[i].traits[number] for i in kept]
    distinct = set(values)
    if len(distinct) == 1:
        return [_Group(values[0], kept, along[kept], 0)]
    if TRAITS[number] in ("InstanceNumber", "frame") or len(distinct) > max(2, len(kept) / 4):
        if any(isinstance(value, str) for value in values):
            return [_Group("", kept, along[kept], 0)]
        ordered = np.array([np.inf if value is None else value for value in values])
        values = [f"no. {volume + 1} in order" for volume in _in_order(ordered, places_of(along[kept]))]
    by_value: dict[str | float, list[int]] = {}
    for i, value in zip(kept.tolist(), values, strict=True):
        by_value.setdefault("none" if value is None else value, []).append(i)
    telling = TRAITS[number] in ("ComplexImageComponent", "ImageType")
    return [
        _Group(value, np.array(members), along[members], text_kind(str(value)) if telling else 0)
        for value, members in by_value.items()
    ]


def _in_order(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(n,) volume index of each image: acquired volume after volume or, if that gives too many volumes, position by
    position."""
    volumes, seen, at, last = np.zeros(len(values), int), set(), 0, None
    order = np.lexsort((places, values))
    for i in order.tolist():
        if places[i] in seen and values[i] != last:
            at, seen = at + 1, set()
        seen.add(places[i])
        volumes[i], last = at, values[i]
    if at + 1 <= np.bincount(places).max():
        return volumes
    for place in np.unique(places):
        here = places == place
        volumes[here] = np.unique(values[here], return_inverse=True)[1]
    return volumes


def _compatible(groups: list[_Group], frames: Sequence[Frame], name: str) -> list[_Group]:
    """The best group and further groups of which at most half compete with those chosen before, without the competing
    images; all groups if none compete."""
    near = {(i, j): _near(a, b, frames, name) for i, a in enumerate(groups) for j, b in enumerate(groups) if i != j}
    if not any(mask.any() for mask in near.values()):
        return groups
    chosen: dict[int, _Group] = {}
    for i in _best_first(groups, frames, name):
        if all(max(near[i, j].mean(), near[j, i].mean()) <= 0.5 for j in chosen):
            free = ~np.any([near[i, j] for j in chosen], axis=0) if chosen else np.ones(len(groups[i].members), bool)
            chosen[i] = replace(groups[i], members=groups[i].members[free], along=groups[i].along[free])
    return list(chosen.values())


def _near(a: _Group, b: _Group, frames: Sequence[Frame], name: str) -> np.ndarray:
    """(members of `a`,) bool: which of them lie at or between the slices of `b`; all if the kinds differ.

    Lying between does not count for files in two folders, or if the header's slice spacing fits both groups together:
    then the slices were acquired alternately.
    """
    if a.kind != b.kind:
        return np.ones(len(a.members), bool)
    gaps = [gap for gap in (a.gap_mm, b.gap_mm) if gap]
    stated = [frame.gap_mm or frame.thickness_mm for frame in (frames[i] for i in [*a.members, *b.members])]
    stated_mm = max((abs(mm) for mm in stated if mm), default=None)
    near = max(SAME_POSITION_MM, NEAR * min(gaps)) if gaps and name != "folder" else SAME_POSITION_MM
    inside = (a.along > b.along.min() - SAME_POSITION_MM) & (a.along < b.along.max() + SAME_POSITION_MM)
    is_near = inside & (np.abs(a.along[:, None] - b.along).min(axis=1) < near)
    between = np.diff(np.sort(np.concatenate([a.along, b.along])))
    median = np.median(between)
    even = median > SAME_POSITION_MM and np.mean(np.abs(between - median) < 0.25 * median) > 0.8
    alternate = even and stated_mm is not None and stated_mm <= 1.25 * median and is_near.mean() > 0.5
    return is_near & ~alternate


def _best_first(groups: list[_Group], frames: Sequence[Frame], name: str) -> list[int]:
    longest = max(group.extent_mm for group in groups)
    most = max(len(group.members) for group in groups)
    whole = [group.extent_mm >= WHOLE * longest and 4 * len(group.members) >= most for group in groups]
    looks = [0.0] * len(groups)
    if sum(whole) > 1 and all(frames[group.members[0]].modality == "CT" for group in groups):
        looks = _looks(groups, frames, name)
    keys = [(not whole[i], *_rank(group), looks[i], *_in_sequence(group, frames)) for i, group in enumerate(groups)]
    return sorted(range(len(groups)), key=keys.__getitem__)


def _rank(group: _Group) -> tuple[int, bool, bool]:
    text = str(group.value).upper()
    return group.kind, "DERIVED" in text, "SECONDARY" in text


def _in_sequence(group: _Group, frames: Sequence[Frame]) -> tuple:
    number = group.value if isinstance(group.value, int | float) else np.inf
    instances = [frames[i].instance for i in group.members if frames[i].instance is not None]
    return number, "" if number < np.inf else str(group.value), min(instances, default=np.inf)


def _looks(groups: list[_Group], frames: Sequence[Frame], name: str) -> list[float]:
    """For CT: 0 for the groups with the most contrast (for kernels: the least noise), 1 for the others."""
    low, high = max(group.along.min() for group in groups), min(group.along.max() for group in groups)
    found = []
    for group in groups:
        at = np.linspace(low, high, SAMPLES) if low <= high else np.quantile(group.along, np.linspace(0, 1, SAMPLES))
        nearest = {int(group.members[np.argmin(np.abs(group.along - mm))]) for mm in at}
        images = [image for image in (_hounsfield(frames[i]) for i in sorted(nearest)) if image is not None]
        if name == "ConvolutionKernel":
            found.append(-np.mean([np.abs(np.diff(image)).mean() for image in images]) if images else -np.inf)
        else:
            found.append(np.mean([np.mean((i > VESSEL_HU[0]) & (i < VESSEL_HU[1])) for i in images]) if images else 0)
    best = max(found)
    return [float(best - value > max(2e-4, 0.05 * abs(best))) for value in found]


def _hounsfield(frame: Frame) -> np.ndarray | None:
    slope, intercept = header_rescale(frame)
    try:
        return decode_frame(frame)[::2, ::2].astype(np.float32) * np.float32(slope) + np.float32(intercept)
    except ValueError:  # reported when the image is read, if it is selected
        return None


def _one_at_each_place(frames: Sequence[Frame], along: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The first image at each position, for copies or a few repeated images that no trait separates."""
    places = places_of(along[kept])
    first: dict[int, int] = {}
    differing = 0
    for i, place in sorted(zip(kept.tolist(), places.tolist(), strict=True), key=lambda at: _sequence(frames[at[0]])):
        if place in first and 2 * (len(kept) - len(set(places.tolist()))) > len(set(places.tolist())):
            differing += not same_pixels(frames[first[place]], frames[i])
        first.setdefault(place, i)
    if 2 * differing > len(first):
        raise ValueError(
            f"{frames[0].storage.path}: expected one image at each position, found {differing} more of other "
            f"content; no element ({', '.join(TRAITS[:-1])}) tells whether they are another volume"
        )
    return np.array(sorted(first.values()))


def _sequence(frame: Frame) -> tuple:
    numbers = (value for value in frame.traits if not isinstance(value, str))
    return (*(np.inf if value is None else value for value in numbers), frame.storage.path.name, frame.index)


def same_pixels(a: Frame, b: Frame) -> bool:
    """Whether two images have the same stored values; False if one cannot be decoded."""
    try:
        return np.array_equal(decode_frame(a), decode_frame(b))
    except ValueError:
        return False
