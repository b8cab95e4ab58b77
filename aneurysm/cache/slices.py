"""Makes cached slices from canonical images: cropped to a square, resized to 512 x 512, windowed to [0, 1], float16."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.head import find_head
from aneurysm.dicom.intensity import Window
from aneurysm.dicom.mapping import SIZE, Crop
from aneurysm.dicom.series import Series


def find_slices(series: Series, settings: CacheSettings, threads: int = 1) -> Window:
    """Sets the crop of a series (headers read) to its head; returns the window that maps values to [0, 1].

    Decodes a few slices with `threads` threads. Raises ValueError naming the folder if these are all images of the
    series and none can be decoded; in a longer series, reading all slices raises it.
    """
    return find_head(series, Window(settings.window_low_hu, settings.window_high_hu), settings.head_mm, threads)


def cached_positions_mm(series: Series) -> np.ndarray:
    """(slices of the crop,) position of each cached slice along the slice axis, increasing, in patient coordinates."""
    return series.geometry.slice_positions_mm()[series.crop.first : series.crop.first + series.crop.count]


def cached_slices(series: Series, window: Window, indices: Iterable[int], threads: int = 1) -> Iterator[np.ndarray]:
    """Yields (512, 512) float16 in [0, 1] for each of `indices` (0 is the first slice of the series' crop).

    Every iteration reuses the same array: use or copy it before the next.
    """
    slope, intercept = series.scale
    gain, offset = slope / (window.high - window.low), (intercept - window.low) / (window.high - window.low)
    numbers, halves = np.empty((SIZE, SIZE), np.float32), np.empty((SIZE, SIZE), np.int16)
    resize = Resizer()
    for image in series.images((series.crop.first + i for i in indices), threads):
        np.multiply(resize(_cropped(image, series.crop, blank=-offset / gain)), np.float32(gain), out=numbers)
        np.add(numbers, np.float32(offset), out=numbers)
        np.clip(numbers, 0, 1, out=numbers)
        # OpenCV's cast rounds like numpy's and takes a fortieth of its time; it returns the bits as int16.
        yield cv2.convertFp16(numbers, halves).view(np.float16)


def _cropped(image: np.ndarray, crop: Crop, blank: float) -> np.ndarray:
    """Rows and columns of the crop; `blank` where it extends beyond the image."""
    n_rows, n_cols = image.shape
    top, left = max(crop.top, 0), max(crop.left, 0)
    bottom, right = min(crop.top + crop.height, n_rows), min(crop.left + crop.width, n_cols)
    part = image[top:bottom, left:right]
    if part.shape == (crop.height, crop.width):
        return part
    out = np.full((crop.height, crop.width), blank, np.float32)
    out[top - crop.top : bottom - crop.top, left - crop.left : right - crop.left] = part
    return out


class Resizer:
    """Resizes images to SIZE x SIZE into reused memory: allocating it costs more than resizing."""

    def __init__(self) -> None:
        self._out = {np.dtype(kind): np.empty((SIZE, SIZE), kind) for kind in (np.int16, np.uint16, np.float32)}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(SIZE, SIZE); shrinking averages pixels, so that no vessel is skipped.

        Integers stay integers if their range is wide enough to make rounding harmless.
        """
        if image.dtype not in self._out or (image.dtype != np.float32 and np.ptp(image[::16, ::16]) < 1000):
            image = image.astype(np.float32)
        if image.strides[1] != image.itemsize or image.strides[0] < 0:  # a flipped or transposed view
            image = np.ascontiguousarray(image)
        rows, cols = min(image.shape[0], SIZE), min(image.shape[1], SIZE)
        if (rows, cols) != image.shape:  # OpenCV averages only where no side grows
            image = cv2.resize(image, (cols, rows), interpolation=cv2.INTER_AREA)
        if image.shape == (SIZE, SIZE):
            return image
        return cv2.resize(image, (SIZE, SIZE), dst=self._out[image.dtype], interpolation=cv2.INTER_LINEAR)
