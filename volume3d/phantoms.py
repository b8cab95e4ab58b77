"""Endless parts of phantom volumes for training, with aneurysm and vessel targets of every cell. Torch-free.

A seed and a number determine each part, which looks like a part of a cached volume.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.vessel_masks import MASK_TO_LOCATION, in_blocks
from aneurysm.folds.targets import mark_sac
from aneurysm.labels import LOCATIONS
from aneurysm.phantom.looks import change_look
from aneurysm.phantom.places import vessel_point
from aneurysm.phantom.raster import coverage
from aneurysm.phantom.shown import ShownScan
from aneurysm.phantom.training_scans import training_scan
from volume3d.config import PhantomPartsConfig, VolumeSettings
from volume3d.crop import around, first_voxel, place_mm
from volume3d.grid import Grid, Line
from volume3d.make_volume import grid_of

SUBSAMPLES = 2  # of a cell, along each axis


@dataclass(frozen=True)
class PhantomPart:
    """A part of a volume and its targets.

    image    (slices, rows, columns) float32 in [0, 1]
    sac      uint8, a number per cell: 0, 1 + index into LOCATIONS where an aneurysm fills it, RIM at its border
    vessels  uint8, a number per cell: 0, or 1 + index into LOCATIONS
    place_mm (3,) of its first voxel, see crop.place_mm
    modality
    """

    image: np.ndarray
    sac: np.ndarray
    vessels: np.ndarray
    place_mm: np.ndarray
    modality: str


def scan_parts(
    seed: int, number: int, parts: PhantomPartsConfig, settings: VolumeSettings, stride: int
) -> list[PhantomPart]:
    """The parts of scan `number` of a seed; seed, number and settings determine them completely.

    `stride` is the cell size in voxels. With `parts.uses` above 1 all parts are repeated, with other intensities.
    Raises ValueError for a seed that is for evaluation.
    """
    cached = CacheSettings(settings.head_mm, settings.window_low_hu, settings.window_high_hu)
    shown, sites, rng = training_scan(seed, number, parts, cached, "axial")
    grid, shape = grid_of(shown.geometry, shown.crop, settings), np.array(parts.shape)
    middles = []
    for _ in range(parts.sac_parts):
        site = to_voxels(shown, grid, sites[rng.integers(len(sites))].centre[None])[0]
        middles.append(around(site, shape, rng))
    for k in range(parts.free_parts):
        if (number + k) % 2:
            middles.append(to_voxels(shown, grid, vessel_point(shown.scan.person, rng)[None])[0])
        else:
            middles.append(rng.uniform(0, grid.shape))
    made = [volume_part(shown, grid, first_voxel(m, grid.shape, parts.shape), parts.shape, stride) for m in middles]
    return [replace(part, image=_with_look(part.image, parts, rng)) for _ in range(parts.uses) for part in made]


def _with_look(image: np.ndarray, parts: PhantomPartsConfig, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(change_look(image.transpose(1, 2, 0), parts.looks, rng).transpose(2, 0, 1))


def volume_part(
    shown: ShownScan, grid: Grid, first: np.ndarray, shape: tuple[int, int, int], stride: int
) -> PhantomPart:
    """The part of a scan's volume that starts at voxel `first` (slice, row, column); 0 outside the volume."""
    inside = [slice(max(0, a), min(n, a + length)) for a, length, n in zip(first, shape, grid.shape, strict=True)]
    weights, used = zip(*(_used(line, part) for line, part in zip(grid.lines, inside, strict=True)), strict=True)
    values, vessels = shown.canonical(np.arange(used[0].start, used[0].stop), used[1], used[2])
    window = shown.window
    values = np.clip((values - np.float32(window.low)) / np.float32(window.high - window.low), 0, 1)
    values = np.tensordot(weights[0], weights[1] @ values @ weights[2].T, 1)
    nearest = [
        np.clip(np.rint(line.pixel_indices()[part]) - own.start, 0, own.stop - own.start - 1).astype(int)
        for line, part, own in zip(grid.lines, inside, used, strict=True)
    ]
    image, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    where = tuple(slice(part.start - a, part.stop - a) for part, a in zip(inside, first, strict=True))
    image[where] = np.clip(values, 0, 1)
    labels[where] = MASK_TO_LOCATION[vessels[np.ix_(*nearest)]]
    sac = sac_cells(shown, grid, first, tuple(n // stride for n in shape), stride)
    place = place_mm(first, grid.shape, grid.spacing_mm)
    return PhantomPart(image, sac, in_blocks(labels, stride), place, shown.acquisition.modality)


def _used(line: Line, part: slice) -> tuple[np.ndarray, slice]:
    """(voxels, pixels) float32 weights for the voxels of a part, and the range of these pixels."""
    weights = line.weights()[part]
    if not weights.nnz:  # the whole part lies outside the images
        return np.zeros((part.stop - part.start, 1), np.float32), slice(0, 1)
    used = slice(int(weights.indices.min()), int(weights.indices.max()) + 1)
    return weights[:, used].toarray().astype(np.float32), used


def sac_cells(shown: ShownScan, grid: Grid, first: np.ndarray, counts: tuple[int, int, int], stride: int) -> np.ndarray:
    """uint8 of shape `counts`: PhantomPart.sac for cells of `stride` voxels that start at voxel `first`."""
    target = np.zeros(counts, np.uint8)
    cell_mm = stride * np.array(grid.spacing_mm)
    for sac in shown.scan.person.sacs:
        centre = (to_voxels(shown, grid, sac.centre[None])[0] - first + 0.5) / stride - 0.5
        reach = (sac.diameter_mm + 3) / cell_mm
        low, high = (np.clip(v.astype(int), 0, counts) for v in (np.floor(centre - reach), np.ceil(centre + reach) + 1))
        if (low >= high).any():
            continue
        share = _filled(shown, grid, sac.blobs[1:], first, low, high, stride)  # without the neck, like sac_target
        mark_sac(target[tuple(map(slice, low, high))], share, LOCATIONS.index(sac.location))
    return target


def _filled(
    shown: ShownScan, grid: Grid, blobs: np.ndarray, first: np.ndarray, low: np.ndarray, high: np.ndarray, stride: int
) -> np.ndarray:
    """Fraction of each cell from `low` to `high` that the blobs of an aneurysm fill."""
    fine = [
        (np.arange(a * SUBSAMPLES, b * SUBSAMPLES) + 0.5) * stride / SUBSAMPLES - 0.5
        for a, b in zip(low, high, strict=True)
    ]
    voxels = np.stack(np.meshgrid(*fine, indexing="ij"), -1).reshape(-1, 3) + first
    points = to_person(shown, grid, voxels)
    filled = coverage(blobs, np.zeros((len(blobs), 3)), points, soft_mm=0.5).max(0)
    shape = [size for a, b in zip(low, high, strict=True) for size in (b - a, SUBSAMPLES)]
    return filled.reshape(shape).mean((1, 3, 5))


def to_voxels(shown: ShownScan, grid: Grid, points: np.ndarray) -> np.ndarray:
    """(n, 3) fractional voxels (slice, row, column) of (n, 3) points in the person's frame."""
    canonical = shown.to_canonical(points).T
    return np.stack([line.voxels_of(pixels) for line, pixels in zip(grid.lines, canonical, strict=True)], 1)


def to_person(shown: ShownScan, grid: Grid, voxels: np.ndarray) -> np.ndarray:
    """(n, 3) points in the person's frame of (n, 3) voxels (slice, row, column)."""
    canonical = [line.pixels_of(own) for line, own in zip(grid.lines, voxels.T, strict=True)]
    return shown.canonical_to_person(np.stack(canonical, 1))
