"""A slab: a slice and those around it, to scroll through and to project; decodes only those still missing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from aneurysm.cache.slices import cached_slices
from aneurysm.dicom.intensity import Window
from aneurysm.dicom.series import Series

EACH_SIDE = 10  # slices on either side of the central one, at most
REACH_MM = 15.0  # on either side, at most
ROUNDING_MM = 1e-3
DARK_VESSELS = ("MRI T2",)  # flowing blood is black: minimum projection; elsewhere maximum
BONE = ("CT", "CTA")  # bone is as bright as vessels: a thinner projection
BONE_REACH_MM = 5.0  # on either side


@dataclass(frozen=True)
class Slab:
    """A slice of the cache, which has index `middle`, and those around it.

    number       (n,) index of each in the cache, increasing
    position_mm  (n,) along the slice axis, increasing, in patient coordinates
    images       (n, 512, 512) uint8
    """

    number: np.ndarray
    position_mm: np.ndarray
    images: np.ndarray
    middle: int

    @property
    def thickness_mm(self) -> float:
        """From the centre of the first slice to that of the last."""
        return float(self.position_mm[-1] - self.position_mm[0])

    def within(self, reach_mm: float) -> Slab:
        """Only the slices within `reach_mm` of the central one."""
        near = np.flatnonzero(np.abs(self.position_mm - self.position_mm[self.middle]) <= reach_mm + ROUNDING_MM)
        return Slab(self.number[near], self.position_mm[near], self.images[near], self.middle - int(near[0]))

    def projection(self, dark_vessels: bool) -> np.ndarray:
        """(512, 512) uint8 maximum along the slices, or minimum; skips images of one value, which could not be
        decoded."""
        seen = self.images[np.ptp(self.images, axis=(1, 2)) > 0]
        seen = seen if len(seen) else self.images
        return seen.min(axis=0) if dark_vessels else seen.max(axis=0)


@dataclass(frozen=True)
class WholeSlices:
    """Whole slices of the cache that were decoded for the models, and the series to decode others from.

    number  (n,) index of each in the cache, increasing
    images  (n, 512, 512) uint8
    series  without pixels
    """

    number: np.ndarray
    images: np.ndarray
    series: Series
    window: Window

    def gathered(self, numbers: np.ndarray) -> WholeSlices:
        """Only the slices `numbers` (increasing); decodes missing ones, and leaves out those that cannot be decoded."""
        here = np.intersect1d(numbers, self.number)
        found = dict(zip(here.tolist(), self.images[np.searchsorted(self.number, here)], strict=True))
        missing = np.setdiff1d(numbers, self.number).tolist()
        if missing:
            series = replace(self.series, warnings=[])  # drops the warnings about these slices
            with suppress(ValueError, OSError):
                for number, image in zip(missing, cached_slices(series, self.window, missing), strict=True):
                    if np.ptp(image) > 0:
                        found[number] = as_bytes(image)
        number = np.array(sorted(found))
        return replace(self, number=number, images=np.stack([found[i] for i in number.tolist()]))


def as_bytes(image: np.ndarray) -> np.ndarray:
    """uint8 of a cached slice (512, 512) float16 in [0, 1]."""
    return np.round(image.astype(np.float32) * 255).astype(np.uint8)


def slabs_around(whole: WholeSlices, position_mm: np.ndarray, numbers: Sequence[int]) -> list[Slab]:
    """The slab around each of `numbers`; `position_mm` (slices,) of all slices of the cache, increasing."""
    around = [_around(position_mm, number) for number in numbers]
    whole = whole.gathered(np.unique(np.concatenate(around)))
    slabs = []
    for number, own in zip(numbers, around, strict=True):
        own = np.intersect1d(own, whole.number)
        images = whole.images[np.searchsorted(whole.number, own)]
        slabs.append(Slab(own, position_mm[own], images, int(np.searchsorted(own, number))))
    return slabs


def _around(position_mm: np.ndarray, number: int) -> np.ndarray:
    first, last = max(number - EACH_SIDE, 0), min(number + EACH_SIDE, len(position_mm) - 1)
    candidates = np.arange(first, last + 1)
    near = np.abs(position_mm[candidates] - position_mm[number]) <= REACH_MM + ROUNDING_MM
    return candidates[near]
