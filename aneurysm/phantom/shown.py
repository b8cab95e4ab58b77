"""Renders parts of a scan as the cache would contain them (crop, resizing, intensity window), without files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.head import head_crop, head_mask, looked_at, mr_tissue
from aneurysm.cache.windows import Box
from aneurysm.dicom.geometry import make_geometry
from aneurysm.dicom.intensity import Window, mr_window
from aneurysm.dicom.mapping import SIZE, Crop
from aneurysm.phantom.acquisition import Acquisition
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.lattice import Lattice
from aneurysm.phantom.noise import Pixels
from aneurysm.phantom.render import Scan, Scene

LOOK_PITCH_MM = 5.0  # lattice pitch of coarse MR images
OUTLINE_MM = 3.0  # lattice pitch of the CT outline


@dataclass(frozen=True)
class Pieces:
    """image: (slices, image_size, image_size) float32 in [0, 1]; vessels: (image_size, image_size), VESSEL_MASK numbers
    in the middle slice."""

    image: np.ndarray
    vessels: np.ndarray


class ShownScan:
    """A scan as preprocess_data.py would cache it: its slices, crop and intensity window.

    In CT the head is the outline of the skin. In MR, where noise matters, head and percentiles come from a few coarse
    images, as the cache takes them from a few of its slices. Canonical slices, rows and columns: see Geometry.
    """

    def __init__(self, scan: Scan, acquisition: Acquisition, settings: CacheSettings, plane: str | None = None):
        """`plane`: re-slices the series in this plane instead of its own. Raises ValueError if there is no head."""
        self.scan, self.acquisition, self.settings, grid = scan, acquisition, settings, acquisition.grid
        positions = grid.origin + np.arange(grid.shape[0])[:, None] * grid.step
        row_mm, col_mm = (float(np.linalg.norm(v)) for v in (grid.row_step, grid.col_step))
        orientation = np.concatenate([grid.col_step / col_mm, grid.row_step / row_mm])
        self.geometry = make_geometry(grid.shape, positions, orientation, (row_mm, col_mm), acquisition.thickness_mm)
        if plane is not None:
            self.geometry = self.geometry.turned_to(plane)
        self.position_mm = self.geometry.slice_positions_mm()
        self.indices, self.steps = looked_at(self.geometry)
        ct = acquisition.modality == "CTA"
        tissue = self.outline() if ct else mr_tissue(self.look)
        head = head_mask(tissue, self.geometry, self.steps)
        if not head.any():
            raise ValueError(f"expected a head in a scan of {grid.shape}, found none")
        self.set_crop(head_crop(self.geometry, self.indices, head, self.steps, settings.head_mm))
        inside = (self.indices >= self.crop.first) & (self.indices < self.crop.first + self.crop.count)
        by_settings = Window(settings.window_low_hu, settings.window_high_hu)
        self.window = by_settings if ct else mr_window(self.look[inside], head[inside])

    def outline(self) -> np.ndarray:
        """(slices, rows, columns) bool: inside the skin, at the pixels that the cache samples to find the head.

        CT noise is too weak to matter.
        """
        grid, tissue = self.canonical_grid(1.0, *self.steps), []
        for index in self.indices:
            lattice = Lattice(replace(grid, origin=grid.to_mm((index, 0, 0)), shape=(1, *grid.shape[1:])), OUTLINE_MM)
            skin = self.scan.fields.skin(lattice.points(0, 1)).reshape(lattice.coarse.shape[1:])
            tissue.append(lattice.enlarge(skin, lattice.whole) > 0)
        return np.stack(tissue)

    def set_crop(self, crop: Crop) -> None:
        """Sets the crop and the matrices that resize its rows and columns to the cache's."""
        self.crop, self.rows, self.cols = crop, _to_cache(crop.height), _to_cache(crop.width)

    @cached_property
    def look(self) -> np.ndarray:
        """(slices, rows, columns) float32 MR signal with noise at these pixels, in evenly spaced slices."""
        noise, contrast, grid = self.scan.noise, self.scan.contrast, self.look_grid
        images = np.mean([self._coarse(depth) for depth in self._depths()], axis=0)
        rows, cols = grid.shape[1:]
        for index, image in enumerate(images):
            image *= cv2.resize(noise.gain_knots(grid, index, contrast.bias), image.shape[::-1])
        own, other = (contrast.noise * noise.grains[first : first + rows, :cols] for first in (0, rows))
        return np.hypot(images + own, other)

    @property
    def between(self) -> float:
        """Distance between coarse images, in canonical slices."""
        return max(1.0, (self.geometry.canonical_shape[0] - 1) / max(1, len(self.indices) - 1))

    @cached_property
    def look_grid(self) -> Grid:
        return self.canonical_grid(self.between, *self.steps)

    def _depths(self) -> np.ndarray:
        """Offsets in slices of the thin layers that a coarse image averages; several if slices are thick."""
        layers = 1 if self.geometry.resliced or self.acquisition.modality == "MRI T2" else self.scan.layers
        return (np.arange(layers) + 0.5) / layers - 0.5

    def _coarse(self, depth: float) -> np.ndarray:
        """(slices, rows, columns) coarse images without noise; pixels and blur soften the vessel walls."""
        grid = self.look_grid
        moved = replace(grid, origin=grid.origin + depth / self.between * grid.step)
        soft_mm = self.scan.width_mm + self.scan.contrast.blur_mm
        scene = Scene(self.scan, moved, Lattice(moved, LOOK_PITCH_MM), soft_mm)
        return np.stack([scene.slice(index) for index in range(grid.shape[0])])

    def canonical_grid(self, slice_step: float, row_step: int, col_step: int) -> Grid:
        """Grid (person's frame) of canonical slices, rows and columns at these steps, from the first on."""
        geometry, grid = self.geometry, self.acquisition.person_grid
        first = np.array([grid.shape[axis] - 1 if flip else 0 for axis, flip in self.axes])
        corner = np.zeros(3)
        corner[list(geometry.order)] = first
        senses = [-1.0 if flip else 1.0 for flip in geometry.flip]
        steps = [sense * grid.matrix[axis] for sense, axis in zip(senses, geometry.order, strict=True)]
        by = (slice_step, row_step, col_step)
        shape = [int((n - 1) / step + 1e-6) + 1 for n, step in zip(geometry.canonical_shape, by, strict=True)]
        return Grid(grid.to_mm(corner), *(k * step for k, step in zip(by, steps, strict=True)), tuple(shape))

    @property
    def axes(self) -> list[tuple[int, bool]]:
        """Source axis and flip of each canonical axis."""
        return list(zip(self.geometry.order, self.geometry.flip, strict=True))

    def to_canonical(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) canonical slice, row and column (fractional) of (n, 3) points in the person's frame."""
        source, shape = self.acquisition.person_grid.to_index(points), self.acquisition.grid.shape
        return np.stack([shape[a] - 1 - source[:, a] if flip else source[:, a] for a, flip in self.axes], 1)

    def canonical_to_person(self, places: np.ndarray) -> np.ndarray:
        """(n, 3) points in the person's frame of (n, 3) canonical slices, rows and columns."""
        source = np.empty((len(places), 3))
        for (axis, flip), index in zip(self.axes, places.T, strict=True):
            source[:, axis] = self.acquisition.grid.shape[axis] - 1 - index if flip else index
        return self.acquisition.person_grid.to_mm(source)

    def to_cache(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) slice, row and column in the cache (fractional) of (n, 3) points in the person's frame."""
        (slices, rows, cols), crop = self.to_canonical(points).T, self.crop
        rows = (rows - crop.top + 0.5) * SIZE / crop.height - 0.5
        return np.stack([slices - crop.first, rows, (cols - crop.left + 0.5) * SIZE / crop.width - 0.5], 1)

    def to_person(self, places: np.ndarray) -> np.ndarray:
        """(n, 3) points in the person's frame of (n, 3) slices, rows and columns in the cache."""
        (slices, rows, cols), crop = places.T, self.crop
        rows = (rows + 0.5) * crop.height / SIZE - 0.5 + crop.top
        cols = (cols + 0.5) * crop.width / SIZE - 0.5 + crop.left
        return self.canonical_to_person(np.stack([slices + crop.first, rows, cols], 1))

    def pieces(self, slices: tuple[int, ...], box: Box) -> Pieces:
        """The whole model input for these cached slices (non-decreasing), cropped to the box."""
        down, rows = _used(self.rows[box.part[0]], self.crop.top)
        across, cols = _used(self.cols[box.part[1]], self.crop.left)
        numbers = np.array(slices) + self.crop.first
        values, vessels = self.canonical(numbers, rows, cols)
        gain = np.float32(1 / (self.window.high - self.window.low))
        image = np.clip((down @ values @ across.T - np.float32(self.window.low)) * gain, 0, 1)
        to_rows, to_cols = _to_input(box.height, box.image_size), _to_input(box.width, box.image_size)
        nearest = [(to @ own).argmax(1) for to, own in ((to_rows, down), (to_cols, across))]
        return Pieces(np.stack([box.resized(own) for own in image]), vessels[len(vessels) // 2][np.ix_(*nearest)])

    def canonical(self, numbers: np.ndarray, rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        """(slices, rows, cols) in physical units of canonical slices (n,), non-decreasing, rows and columns; and the
        VESSEL_MASK numbers of the same pixels. Pixels outside the images have the window's lowest value, no vessel.
        """
        wanted = (slice(int(numbers[0]), int(numbers[-1]) + 1), rows, cols)
        shape = self.geometry.canonical_shape
        inner = [slice(max(0, w.start), min(n, w.stop)) for w, n in zip(wanted, shape, strict=True)]
        part: list[slice] = [slice(0, 0)] * 3
        for (axis, flip), own, n in zip(self.axes, inner, shape, strict=True):
            part[axis] = slice(n - own.stop, n - own.start) if flip else own
        single = None
        if not self.geometry.resliced:
            n, flip = shape[0], self.geometry.flip[0]
            single = sorted({int(n - 1 - k if flip else k) for k in numbers})
        made = self.scan.part(tuple(part), True, single, self.echo)
        image, vessels = self.geometry.turned(made.image), self.geometry.turned(made.vessel_mask)
        place = numbers - inner[0].start if single is None else np.unique(numbers, return_inverse=True)[1]
        beyond = [(i.start - w.start, w.stop - i.stop) for i, w in zip(inner[1:], wanted[1:], strict=True)]
        image = np.pad(image[place], [(0, 0), *beyond], constant_values=self.window.low)
        return image, np.pad(vessels[place], [(0, 0), *beyond])

    def echo(self, number: int, pixels: Pixels, shift: int) -> np.ndarray:
        """Source slice `number` at `pixels` after np.roll by `shift` rows, from coarse images; see Noise.apply."""
        rows = (np.arange(pixels[0].start, pixels[0].stop) - shift) % self.acquisition.grid.shape[1]
        cols = np.arange(pixels[1].start, pixels[1].stop)
        index = [np.empty(0)] * 3  # of the coarse images, along their axes
        for own, (axis, flip), by in zip(range(3), self.axes, (self.between, *self.steps), strict=True):
            source = (np.array([number]), rows, cols)[axis]
            index[own] = (self.geometry.canonical_shape[own] - 1 - source if flip else source) / max(by, 1e-6)
        nearest = (np.clip(np.rint(i).astype(int), 0, n - 1) for i, n in zip(index, self.look.shape, strict=True))
        block = self.look[np.ix_(*nearest)]
        order = self.geometry.order
        return block.transpose([order.index(axis) for axis in range(3)])[0]


def _to_cache(length: int) -> np.ndarray:
    """(SIZE, length) matrix that resizes `length` rows or columns of an image to the cache's."""
    matrix = np.eye(length, dtype=np.float32)
    if length > SIZE:
        return cv2.resize(matrix, (length, SIZE), interpolation=cv2.INTER_AREA)
    return cv2.resize(matrix, (length, SIZE), interpolation=cv2.INTER_LINEAR)


def _to_input(length: int, image_size: int) -> np.ndarray:
    """(image_size, length) matrix that resizes `length` rows or columns of a box in the cache to the input's."""
    interpolation = cv2.INTER_AREA if image_size < length else cv2.INTER_LINEAR
    return cv2.resize(np.eye(length, dtype=np.float32), (length, image_size), interpolation=interpolation)


def _used(matrix: np.ndarray, first: int) -> tuple[np.ndarray, slice]:
    """The columns of a matrix from the first to the last that is not all zero, and their indices plus
    `first`."""
    found = np.flatnonzero(matrix.any(0))
    low, high = int(found[0]), int(found[-1]) + 1
    return np.ascontiguousarray(matrix[:, low:high]), slice(first + low, first + high)
