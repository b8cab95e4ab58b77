"""Windows: a slice and neighbours some mm apart, cropped to the vessel region; converts points to and from them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from aneurysm.cache.cache import Cache
from aneurysm.cache.config import InputConfig
from aneurysm.dicom.mapping import SIZE


@dataclass(frozen=True)
class Box:
    """The crop of a window in whole pixels of the cached slices; it is resized to image_size rows and columns."""

    left: int
    top: int
    width: int
    height: int
    image_size: int

    def to_input(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) x, y in pixels of the input, from pixels of the cache; the edges of both align."""
        corner, size = np.array([self.left, self.top]), np.array([self.width, self.height])
        return (points - corner + 0.5) * self.image_size / size - 0.5

    def to_cache(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) x, y in pixels of the cache, from pixels of the input."""
        corner, size = np.array([self.left, self.top]), np.array([self.width, self.height])
        return (points + 0.5) * size / self.image_size - 0.5 + corner

    def shows(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool: whether points (n, 2), x, y in pixels of the cache, lie in the box."""
        x, y = np.asarray(points, float).reshape(-1, 2).T + 0.5 - np.array([[self.left], [self.top]])
        return (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)

    @property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns of a cached slice."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def resized(self, part: np.ndarray, nearest: bool = False) -> np.ndarray:
        """The part of a slice resized to (image_size, image_size); averaged when it shrinks."""
        smaller = self.image_size < min(self.width, self.height)
        interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        size = (self.image_size, self.image_size)
        return cv2.resize(part, size, interpolation=cv2.INTER_NEAREST_EXACT if nearest else interpolation)


def crop_box(config: InputConfig, plane: str, shift: tuple[float, float] = (0.0, 0.0)) -> Box:
    """The vessel region of slices in this plane; `shift` moves it right and down (fractions), clipped to the image.

    Raises ValueError if the configured crop is empty or leaves the image.
    """
    left, right, top, bottom = crop = config.crop if plane == "axial" else config.crop_upright
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(f"crop: expected left < right and top < bottom between 0 and 1, found {crop}")
    width, height = round((right - left) * SIZE), round((bottom - top) * SIZE)
    x = round(np.clip((left + shift[0]) * SIZE, 0, SIZE - width))
    y = round(np.clip((top + shift[1]) * SIZE, 0, SIZE - height))
    return Box(x, y, width, height, config.image_size)


def neighbours(position_mm: np.ndarray, index: int, neighbour_mm: float, n_slices: int = 3) -> tuple[int, ...]:
    """Indices of the slices nearest to neighbour_mm below and above, twice that, ..., each at least one slice further.

    At an end of the series the last slice repeats. position_mm (slices,) increasing. Returns n_slices indices in
    non-decreasing order, with `index` in the middle.
    """
    below, above = [index], [index]
    for step in range(1, n_slices // 2 + 1):
        lower, upper = (
            int(np.abs(position_mm - (position_mm[index] + s * step * neighbour_mm)).argmin()) for s in (-1, 1)
        )
        below.append(min(lower, max(below[-1] - 1, 0)))
        above.append(max(upper, min(above[-1] + 1, len(position_mm) - 1)))
    return *below[:0:-1], index, *above[1:]


def sampled_slices(position_mm: np.ndarray, slice_spacing_mm: float) -> np.ndarray:
    """Unique indices of slices about `slice_spacing_mm` apart, from the first to the last; all slices for 0."""
    if slice_spacing_mm <= 0:
        return np.arange(len(position_mm))
    wanted = np.arange(position_mm[0], position_mm[-1] + slice_spacing_mm / 2, slice_spacing_mm)
    return np.unique(np.abs(position_mm[None] - wanted[:, None]).argmin(axis=1))


def read_window(
    cache: Cache, series_uid: str, index: int, neighbour_mm: float, box: Box, n_slices: int = 3
) -> np.ndarray:
    """(image_size, image_size, n_slices) float32 in [0, 1]; channels are the slices from below to above.

    Raises as Cache.window.
    """
    slices = cache.window(series_uid, neighbours(cache.position_mm(series_uid), index, neighbour_mm, n_slices))
    return cv2.merge([seen_part(image, box) for image in slices])


def seen_part(image: np.ndarray, box: Box) -> np.ndarray:
    """(image_size, image_size) float32 in [0, 1]: one cached slice (512, 512) float16, cropped to the box."""
    part = np.ascontiguousarray(image[box.part])
    return box.resized(cv2.convertFp16(part.view(np.int16)))  # ten times as fast as numpy's cast
