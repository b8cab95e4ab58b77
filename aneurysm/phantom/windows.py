"""Endless phantom windows for training, determined by seed and number, with aneurysm and vessel of every pixel.

They equal what the cache would give for the same head. No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from aneurysm.cache.config import CacheSettings, InputConfig
from aneurysm.cache.vessel_masks import MASK_TO_LOCATION, in_blocks
from aneurysm.cache.windows import Box, crop_box, neighbours
from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.dicom.mapping import SIZE
from aneurysm.folds.targets import mark_sac
from aneurysm.labels import LOCATIONS, MIRROR
from aneurysm.phantom.config import PhantomWindowsConfig
from aneurysm.phantom.looks import change_look
from aneurysm.phantom.places import any_place, sac_place, vessel_place
from aneurysm.phantom.raster import coverage
from aneurysm.phantom.sacs import Sac
from aneurysm.phantom.shown import ShownScan
from aneurysm.phantom.training_scans import training_scan

SUBSAMPLES = 2  # of a target pixel, along each axis
CACHED = CacheSettings()
MIRRORED = np.arange(256, dtype=np.uint8)  # values of targets, left and right exchanged
MIRRORED[1 : len(LOCATIONS) + 1] = [1 + MIRROR[k] for k in range(len(LOCATIONS))]
DEPTHS = (-1 / 3, 0, 1 / 3)  # as fractions of the slice thickness, at which sacs are sampled


@dataclass(frozen=True)
class PhantomWindow:
    """One window and its targets.

    image    (part, part, slices) float32 in [0, 1], channels from below to above
    sac      (maps, maps) uint8: 0, 1 + index in LOCATIONS where a sac fills the pixel, RIM at its border;
             maps = part / stride
    vessels  (maps, maps) uint8: 0, or 1 + index in LOCATIONS
    corner   first column and row, in pixels of the whole input
    plane, modality
    """

    image: np.ndarray
    sac: np.ndarray
    vessels: np.ndarray
    corner: tuple[int, int]
    plane: str
    modality: str

    def mirrored(self, image_size: int) -> PhantomWindow:
        """The window of the same head with left and right exchanged; `image_size` is that of whole inputs."""
        sac, vessels, (left, top) = MIRRORED[self.sac], MIRRORED[self.vessels], self.corner
        if not left_right_in_columns(self.plane):
            return replace(self, image=np.ascontiguousarray(self.image[..., ::-1]), sac=sac, vessels=vessels)
        image, sac, vessels = (np.ascontiguousarray(array[:, ::-1]) for array in (self.image, sac, vessels))
        return replace(self, image=image, sac=sac, vessels=vessels, corner=(image_size - image.shape[1] - left, top))


def scan_windows(
    seed: int, number: int, windows: PhantomWindowsConfig, inputs: InputConfig, stride: int,
    settings: CacheSettings = CACHED, hardness: Callable[[PhantomWindow], float] | None = None,
) -> list[PhantomWindow]:  # fmt: skip
    """The windows of scan `number` of a seed; determined by seed, number and settings.

    `stride` is that of the targets, in pixels of the input. `hardness` chooses among `windows.mined_of`. With
    `windows.uses` all windows are followed by their other uses. Raises
    ValueError for a seed that is for evaluation, and where there is nothing to choose by.
    """
    if windows.mined_of > 1 and hardness is None:
        raise ValueError(f"phantoms.mined_of {windows.mined_of}: expected a network to choose, found none")
    shown, sites, rng = training_scan(seed, number, windows, settings)
    box = crop_box(inputs, shown.geometry.plane)
    firsts = [sac_place(shown, site, rng) for site in sites for _ in range(windows.slabs_per_sac)]
    n_free = windows.free_slabs * windows.mined_of
    firsts += [vessel_place(shown, rng) if k % 2 else any_place(shown, box, rng) for k in range(n_free)]
    made = []
    for first in firsts:
        index = int(first[0])
        others = [vessel_place(shown, rng, index) if rng.random() < 0.5 else any_place(shown, box, rng)
                  for _ in range(windows.windows_per_slab - 1)]  # fmt: skip
        part = windows.part or inputs.image_size
        made += _slab(shown, box, index, [first, *others], part, inputs, stride, rng)
    uses = [[replace(own, image=change_look(own.image, windows.looks, rng)) for own in made]]
    if windows.mined_of > 1:
        n_own = len(made) - n_free
        groups = [range(n_own + k, len(made), windows.free_slabs) for k in range(windows.free_slabs)]
        chosen = [*range(n_own), *(max(group, key=lambda k: hardness(uses[0][k])) for group in groups)]
        made, uses = [made[k] for k in chosen], [[uses[0][k] for k in chosen]]
    for use in range(1, windows.uses):
        again = [own.mirrored(inputs.image_size) if use % 2 else own for own in made]
        uses.append([replace(own, image=change_look(own.image, windows.looks, rng)) for own in again])
    return sum(uses, [])


def _slab(
    shown: ShownScan, box: Box, index: int, places: list[np.ndarray], part: int, inputs: InputConfig, stride: int, rng
) -> list[PhantomWindow]:
    """Windows of one cached slice and its neighbours, one around each place (slice, row, column of the cache)."""
    kept = shown.position_mm[shown.crop.first : shown.crop.first + shown.crop.count]
    pieces = shown.pieces(neighbours(kept, index, inputs.neighbour_mm, inputs.n_slices), box)
    vessels = MASK_TO_LOCATION[pieces.vessels]
    made = []
    for place in places:
        left, top = (_start(v, part, box.image_size, rng) for v in box.to_input(place[None, :0:-1])[0])
        rows, cols = slice(top, top + part), slice(left, left + part)
        image = np.ascontiguousarray(pieces.image[:, rows, cols].transpose(1, 2, 0))
        sac = sac_target(shown, index, box, (top, left), part, stride)
        blocks = in_blocks(vessels[rows, cols], stride)
        made.append(PhantomWindow(image, sac, blocks, (left, top), shown.geometry.plane, shown.acquisition.modality))
    return made


def _start(place: float, part: int, image_size: int, rng: np.random.Generator) -> int:
    """First row or column of a window that contains a place, at least an eighth away from its border if possible."""
    low, high = int(place - part + part / 8), int(place - part / 8)
    return int(np.clip(rng.integers(low, high + 1), 0, image_size - part))


def sac_target(shown: ShownScan, index: int, box: Box, corner: tuple[int, int], part: int, stride: int) -> np.ndarray:
    """(maps, maps) uint8, see PhantomWindow.sac, of the part of a slice's input that begins at `corner` (row, column).

    What a sac fills of a pixel is meant over the slice's thickness.
    """
    n, spacing, crop = part // stride, shown.geometry.canonical_spacing, shown.crop
    maps_mm = np.array([spacing[1] * crop.height * box.height, spacing[2] * crop.width * box.width])
    maps_mm *= stride / SIZE / box.image_size  # rows and columns of the maps
    target = np.zeros((n, n), np.uint8)
    for sac in shown.scan.person.sacs:
        reach_mm, place = sac.diameter_mm + 3, shown.to_cache(sac.centre[None])[0]
        if abs(place[0] - index) * spacing[0] > reach_mm + spacing[0]:
            continue
        centre = (box.to_input(place[None, :0:-1])[0, ::-1] - corner) / stride
        reach = reach_mm + spacing[0] * abs(place[0] - index)  # under a gantry tilt slices are shifted
        low, high = np.clip(np.array([centre - reach / maps_mm, centre + reach / maps_mm + 1]).astype(int), 0, n)
        if (low >= high).any():
            continue
        area = slice(low[0], high[0]), slice(low[1], high[1])
        share = _filled(shown, sac, index, box, [(a.start, a.stop) for a in area], corner, stride)
        mark_sac(target[area], share, LOCATIONS.index(sac.location))
    return target


def _filled(
    shown: ShownScan, sac: Sac, index: int, box: Box, area: list[tuple[int, int]], corner: tuple[int, int], stride: int
) -> np.ndarray:
    """Fraction of each pixel that a sac fills, in an area of the maps (first and last row, first and last column)."""
    rows, cols = ((np.arange(a * SUBSAMPLES, b * SUBSAMPLES) + 0.5) * stride / SUBSAMPLES - 0.5 for a, b in area)
    xy = box.to_cache(np.stack(np.meshgrid(cols + corner[1], rows + corner[0]), -1).reshape(-1, 2))
    places = [np.column_stack([np.full(len(xy), index + depth), xy[:, ::-1]]) for depth in DEPTHS]
    blobs = sac.blobs[1:]  # without the neck, half of which lies in the parent artery
    points = shown.to_person(np.concatenate(places))
    filled = coverage(blobs, np.zeros((len(blobs), 3)), points, soft_mm=0.5).max(0)
    return filled.reshape(len(DEPTHS), len(rows) // SUBSAMPLES, SUBSAMPLES, -1, SUBSAMPLES).mean((0, 2, 4))
