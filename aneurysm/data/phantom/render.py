"""One scan of a person: the image that a scanner of a modality would make on a grid, and the mask of its vessels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from aneurysm.data.phantom import soft
from aneurysm.data.phantom.blood import (
    CHALK,
    VEIN,
    arterial_value,
    blood_value,
    mask_of,
    paint_blood,
    paint_surroundings,
)
from aneurysm.data.phantom.compose import Layers, compose, over
from aneurysm.data.phantom.contrast import Contrast
from aneurysm.data.phantom.distance import step
from aneurysm.data.phantom.fields import NAMES
from aneurysm.data.phantom.grid import Grid
from aneurysm.data.phantom.lattice import Lattice
from aneurysm.data.phantom.person import Person
from aneurysm.data.phantom.raster import code_of, share_of

THICKEST_MM = 2.0  # thicker slices are the mean of several thin ones
BLUR_REACH_MM = 3.0  # how far outside the skin a slice is still composed


@dataclass(frozen=True)
class Rendered:
    """image: float32 (slices, rows, cols), HU or MR signal >= 0; vessel_mask: uint8, VESSEL_MASK's numbers, or None."""

    image: np.ndarray
    vessel_mask: np.ndarray | None


def render(person: Person, grid: Grid, modality: str, rng: np.random.Generator, masks: bool = False) -> Rendered:
    """The scan of a person on a grid in the person's frame; modality is one of MODALITIES."""
    cv2.setNumThreads(1)  # whoever renders many heads runs a process per core
    contrast, noise = person.style.contrast(rng, modality), person.style.noise(rng, modality, grid)
    thick_mm = abs(np.linalg.det(grid.matrix)) / np.linalg.norm(np.cross(grid.row_step, grid.col_step))
    layers = max(1, int(np.ceil(thick_mm / THICKEST_MM - 0.01)))
    scene = Scene(person, thinner(grid, layers), contrast, rest=noise.rest)
    image = np.empty(grid.shape, np.float32)
    mask = np.zeros(grid.shape, np.uint8) if masks else None
    for number in range(grid.shape[0]):
        parts = [scene.slice(layers * number + layer) for layer in range(layers)]
        image[number] = noise.apply(np.mean(parts, axis=0) if layers > 1 else parts[0], number, contrast)
        if masks:
            mask[number] = mask_of(scene.blood[layers * number + layers // 2])
    return Rendered(image, mask)


def thinner(grid: Grid, layers: int) -> Grid:
    """The grid with each slice parted into as many layers."""
    step_mm = grid.step / layers
    origin = grid.origin - step_mm * (layers - 1) / 2
    return Grid(origin, step_mm, grid.row_step, grid.col_step, (grid.shape[0] * layers, *grid.shape[1:]))


class Scene:
    """A person on a grid of thin slices: slices without noise, one after the other."""

    def __init__(self, person: Person, grid: Grid, contrast: Contrast, rest: float | None):
        self.person, self.grid, self.contrast, self.rest = person, grid, contrast, rest
        self.lattice, self.fields = Lattice(grid), person.style.fields(person.shape)
        pixel = np.sqrt(np.linalg.norm(grid.row_step) * np.linalg.norm(grid.col_step))
        self.width_mm = float(max(0.7, pixel))
        self.blood = paint_blood(person, grid, soft_mm=self.width_mm)
        self.around = paint_surroundings(person, self.lattice.coarse)
        corners = np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(grid.shape) - 1)
        heights = grid.to_mm(corners)[:, 2]
        self.span_mm = float(heights.min()), float(heights.max())

    def coarse(self, first: int, count: int) -> np.ndarray:
        """(fields, count, rows, cols) of slices of the lattice, in the order of NAMES, then cistern, canal, rest."""
        points = self.lattice.points(first, count)
        values = self.fields.at(points)
        made = [values[name] for name in NAMES]
        made += [around[first : first + count].ravel() for around in self.around]
        if self.rest is not None:
            made.append(soft.rest(points[:, 0], points[:, 1], points[:, 2], self.rest))
        return np.stack(made).reshape(len(made), count, *self.lattice.coarse.shape[1:])

    def slice(self, index: int) -> np.ndarray:
        """float32 (rows, cols) of a thin slice."""
        values = self.lattice.slice_at(index, self.coarse)
        names = (*NAMES, "cistern", "canal", *(["rest"] if self.rest is not None else []))
        coarse = dict(zip(names, values, strict=True))
        image = np.full(self.grid.shape[1:], self.contrast.air, np.float32)
        self.add_rest(image, coarse)
        window = self.lattice.window(coarse["skin"], -BLUR_REACH_MM)
        if window is not None:
            layers = Layers(coarse, self.lattice, window, self.width_mm)
            body = compose(layers, self.contrast, self.person.shape.cleft_mm)
            over(image[window.pixels], layers.inside("skin"), body)
        self.bleed(image.reshape(-1), self.blood[index].reshape(-1), index)
        return image

    def add_rest(self, image: np.ndarray, coarse: dict[str, np.ndarray]) -> None:
        """Lay the head rest over the air: a thin shell about a light core."""
        window = self.lattice.window(coarse["rest"], -2.0) if self.rest is not None else None
        if window is not None:
            depth = self.lattice.enlarge(coarse["rest"], window)
            over(image[window.pixels], step(depth, self.width_mm), -250 - 600 * step(depth - 1.0, 0.8))

    def bleed(self, image: np.ndarray, blood: np.ndarray, index: int) -> None:
        """Lay blood over the flat pixels of a slice."""
        where = np.flatnonzero(blood != 0)
        filled = blood[where]
        codes = code_of(filled)
        points = self.grid.to_mm(np.stack([np.full(len(where), index), *np.divmod(where, self.grid.shape[2])], 1))
        artery = arterial_value(points, self.person.sacs, self.contrast, self.span_mm)
        value = np.where((codes > VEIN) & (codes < CHALK), artery, blood_value(codes, self.contrast))
        image[where] += share_of(filled) * (value - image[where])
