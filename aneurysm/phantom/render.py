"""Renders the scan of a person on a grid: the image that a modality would give, and the vessel mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from aneurysm.phantom import soft
from aneurysm.phantom.blood import (
    CHALK,
    VEIN,
    arterial_value,
    blood_of,
    blood_value,
    mask_of,
    paint_blood,
    paint_surroundings,
    surroundings_of,
)
from aneurysm.phantom.compose import Layers, compose, over
from aneurysm.phantom.distance import step
from aneurysm.phantom.fields import NAMES
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.lattice import Lattice, strides_of
from aneurysm.phantom.noise import Ghost
from aneurysm.phantom.person import Person
from aneurysm.phantom.raster import Capsules, code_of, share_of

THICKEST_MM = 2.0  # thicker slices are means of several thin ones
BLUR_REACH_MM = 3.0  # how far outside the skin a slice is still composed
Part = tuple[slice, slice, slice]  # slices, rows and columns of a grid, with start and stop


@dataclass(frozen=True)
class Rendered:
    """image: float32 (slices, rows, cols), HU or MR signal >= 0; vessel_mask: uint8, VESSEL_MASK's numbers, or None."""

    image: np.ndarray
    vessel_mask: np.ndarray | None


def render(person: Person, grid: Grid, modality: str, rng: np.random.Generator, masks: bool = False) -> Rendered:
    """The scan of a person on a grid in the person's frame; modality is one of MODALITIES."""
    scan = Scan(person, grid, modality, rng)
    return scan.part(tuple(slice(0, n) for n in grid.shape), masks)


class Scan:
    """A person in a scanner: random fields, drawn once, and images of any part of the grid.

    A part shows what the whole shows there: its lattice of tissue borders is that of the whole, its noise as well.
    """

    def __init__(self, person: Person, grid: Grid, modality: str, rng: np.random.Generator):
        cv2.setNumThreads(1)  # to render many heads, run a process per core
        self.person, self.grid = person, grid
        self.contrast, self.noise = person.style.contrast(rng, modality), person.style.noise(rng, modality, grid)
        thick_mm = abs(np.linalg.det(grid.matrix)) / np.linalg.norm(np.cross(grid.row_step, grid.col_step))
        self.layers = max(1, int(np.ceil(thick_mm / THICKEST_MM - 0.01)))
        self.fine = thinner(grid, self.layers)
        self.fields = person.style.fields(person.shape)
        corners = np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(self.fine.shape) - 1)
        heights = self.fine.to_mm(corners)[:, 2]
        self.span_mm = float(heights.min()), float(heights.max())
        pixel_mm = np.sqrt(np.linalg.norm(grid.row_step) * np.linalg.norm(grid.col_step))
        self.width_mm = float(max(0.7, pixel_mm))

    @cached_property
    def blood(self) -> Capsules:
        return blood_of(self.person)

    @cached_property
    def surroundings(self) -> tuple[Capsules, Capsules]:
        return surroundings_of(self.person)

    def part(self, part: Part, masks: bool = False, wanted: list[int] | None = None, ghost: Ghost = None) -> Rendered:
        """Images of a part of the grid; with `wanted` (indices of the grid), only of these slices.

        `ghost` tells what the whole scan shows elsewhere, where motion lays an echo of it over a part (see Noise).
        """
        slices, rows, cols = part
        margin = self.noise.margin(self.contrast)
        _, down, across = strides_of(self.fine)
        top, left = (max(0, s.start - margin) // k * k for s, k in ((rows, down), (cols, across)))
        around = (slices, *(slice(s.start - a, s.stop - a) for s, a in ((rows, top), (cols, left))))
        bottom, right = (min(n, s.stop + margin) for n, s in zip(self.grid.shape[1:], (rows, cols), strict=True))
        cut = self.cut(slices, slice(top, bottom), slice(left, right))
        scene = Scene(self, cut, Lattice(cut, skipped=self.layers * slices.start), self.width_mm)
        numbers = range(slices.start, slices.stop) if wanted is None else wanted
        shape = (len(numbers), rows.stop - rows.start, cols.stop - cols.start)
        image, mask = np.empty(shape, np.float32), np.zeros(shape, np.uint8) if masks else None
        for place, number in enumerate(numbers):
            first = self.layers * (number - slices.start)
            parts = [scene.slice(first + layer) for layer in range(self.layers)]
            mean = np.mean(parts, axis=0) if self.layers > 1 else parts[0]
            image[place] = self.noise.apply(mean, number, self.contrast, (rows, cols), around[1:], ghost)
            if masks:
                mask[place] = mask_of(scene.blood[first + self.layers // 2][around[1:]])
        return Rendered(image, mask)

    def cut(self, slices: slice, rows: slice, cols: slice) -> Grid:
        """The thin slices of a part of the grid."""
        origin = self.fine.to_mm((self.layers * slices.start, rows.start, cols.start))
        counts = (self.layers * (slices.stop - slices.start), rows.stop - rows.start, cols.stop - cols.start)
        return Grid(origin, self.fine.step, self.fine.row_step, self.fine.col_step, counts)


def thinner(grid: Grid, layers: int) -> Grid:
    """The grid with each slice divided into `n` layers."""
    step_mm = grid.step / layers
    origin = grid.origin - step_mm * (layers - 1) / 2
    return Grid(origin, step_mm, grid.row_step, grid.col_step, (grid.shape[0] * layers, *grid.shape[1:]))


class Scene:
    """A scan on a grid of thin slices; renders slices without noise, one by one."""

    def __init__(self, scan: Scan, grid: Grid, lattice: Lattice, soft_mm: float):
        """`soft_mm` is the width of walls."""
        self.scan, self.grid, self.lattice, self.soft_mm = scan, grid, lattice, soft_mm
        self.contrast = scan.contrast
        self.blood = paint_blood(scan.blood, grid, soft_mm=self.soft_mm)
        self.around = paint_surroundings(scan.surroundings, self.lattice.coarse)

    def coarse(self, first: int, count: int) -> np.ndarray:
        """(fields, count, rows, cols) of slices of the lattice, in the order of NAMES, then cistern, canal, rest."""
        points = self.lattice.points(first, count)
        values = self.scan.fields.at(points)
        made = [values[name] for name in NAMES]
        made += [around[first : first + count].ravel() for around in self.around]
        if self.scan.noise.rest is not None:
            made.append(soft.rest(points[:, 0], points[:, 1], points[:, 2], self.scan.noise.rest))
        return np.stack(made).reshape(len(made), count, *self.lattice.coarse.shape[1:])

    def slice(self, index: int) -> np.ndarray:
        """float32 (rows, cols) of a thin slice."""
        values = self.lattice.slice_at(index, self.coarse)
        names = (*NAMES, "cistern", "canal", *(["rest"] if self.scan.noise.rest is not None else []))
        coarse = dict(zip(names, values, strict=True))
        image = np.full(self.grid.shape[1:], self.contrast.air, np.float32)
        if self.scan.noise.rest is not None:
            self.add_rest(image, coarse)
        window = self.lattice.window(coarse["skin"], -BLUR_REACH_MM)
        if window is not None:
            layers = Layers(coarse, self.lattice, window, self.soft_mm)
            body = compose(layers, self.contrast, self.scan.person.shape.cleft_mm)
            over(image[window.pixels], layers.inside("skin"), body)
        self.bleed(image.reshape(-1), self.blood[index].reshape(-1), index)
        return image

    def add_rest(self, image: np.ndarray, coarse: dict[str, np.ndarray]) -> None:
        """Adds the head rest to the air: a thin shell around a light core."""
        window = self.lattice.window(coarse["rest"], -2.0)
        if window is not None:
            depth = self.lattice.enlarge(coarse["rest"], window)
            over(image[window.pixels], step(depth, self.scan.width_mm), -250 - 600 * step(depth - 1.0, 0.8))

    def bleed(self, image: np.ndarray, blood: np.ndarray, index: int) -> None:
        """Blends blood into the flattened pixels of a slice."""
        where = np.flatnonzero(blood != 0)
        filled = blood[where]
        codes = code_of(filled)
        points = self.grid.to_mm(np.stack([np.full(len(where), index), *np.divmod(where, self.grid.shape[2])], 1))
        artery = arterial_value(points, self.scan.person.sacs, self.contrast, self.scan.span_mm)
        value = np.where((codes > VEIN) & (codes < CHALK), artery, blood_value(codes, self.contrast))
        image[where] += share_of(filled) * (value - image[where])
