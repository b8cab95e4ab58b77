"""Maps points between original images and the cache, for localizers, masks and reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZE = 512  # rows and columns of a cached slice
ROUNDING = 1e-6  # of a pixel: a point on the edge counts as inside


@dataclass(frozen=True)
class Crop:
    """The part of the canonical volume that is cached, in whole pixels; it may extend beyond the image.

    first, count  first canonical slice, number of slices
    top, height   first canonical row, number of rows, resized to SIZE rows of the cache
    left, width   first canonical column, number of columns, resized to SIZE columns
    """

    first: int
    count: int
    top: int
    height: int
    left: int
    width: int


def square_crop(slices: tuple, rows: tuple, cols: tuple, spacing: tuple[float, float, float]) -> Crop:
    """The smallest square in millimetres around rows[0]:rows[1] and cols[0]:cols[1], for slices[0]:slices[1]."""
    side_mm = max((rows[1] - rows[0]) * spacing[1], (cols[1] - cols[0]) * spacing[2])
    height, width = (max(1, round(side_mm / mm)) for mm in spacing[1:])
    top, left = round((rows[0] + rows[1] - height) / 2), round((cols[0] + cols[1] - width) / 2)
    return Crop(int(slices[0]), int(slices[1] - slices[0]), top, height, left, width)


@dataclass(frozen=True)
class Mapping:
    """Original image (x = column, y = row, SOP Instance UID, frame) <-> cache (x, y, slice).

    Pixel centres are whole numbers on both sides. `images` holds (SOP Instance UID, frame) of the source images in
    slice order; `twins` holds (SOP Instance UID, frame, source index of the one that replaces it) of repeated images.
    """

    shape: tuple[int, int, int]
    order: tuple[int, int, int]
    flip: tuple[bool, bool, bool]
    crop: Crop
    images: tuple[tuple[str, int], ...]
    twins: tuple[tuple[str, int, int], ...] = ()

    @classmethod
    def from_dict(cls, saved: dict) -> Mapping:
        """The mapping from a dict of `dataclasses.asdict`, also after JSON."""
        images, twins = ([tuple(row) for row in saved[key]] for key in ("images", "twins"))
        order, flip = tuple(saved["order"]), tuple(saved["flip"])
        return cls(tuple(saved["shape"]), order, flip, Crop(**saved["crop"]), tuple(images), tuple(twins))

    def to_cache(self, x: float, y: float, sop_uid: str, frame: int | None = None) -> tuple[float, float, float]:
        """Cache (x, y, slice) of an original pixel; the slice is fractional only in re-sliced series.

        Raises ValueError with the reason if the point cannot be placed: image missing, frame missing or out of range,
        point outside the image or outside the cached part of the head.
        """
        source = self.source_index(sop_uid, frame)
        _, n_rows, n_cols = self.shape
        if not _inside((x, y), (n_cols, n_rows)):
            raise ValueError(f"({x}, {y}) lies outside the image of {n_cols} columns and {n_rows} rows")
        k, row, column = self._to_canonical((source, y, x))
        crop = self.crop
        point = (
            _resize(column - crop.left, crop.width, SIZE),
            _resize(row - crop.top, crop.height, SIZE),
            k - crop.first,
        )
        if not _inside(point, (SIZE, SIZE, crop.count)):
            raise ValueError(f"({x}, {y}) of {sop_uid} lies outside the cached part of the head")
        return point

    def to_original(self, x: float, y: float, slice_index: float) -> tuple[float, float, str, int]:
        """Original (x, y, SOP Instance UID, frame) of a point in the cache, in the nearest image.

        Raises ValueError if the point lies outside the original images, where the cache is padded to a square.
        """
        crop = self.crop
        column = _resize(x, SIZE, crop.width) + crop.left
        row = _resize(y, SIZE, crop.height) + crop.top
        source, y_original, x_original = self._to_source((slice_index + crop.first, row, column))
        if not _inside((source, y_original, x_original), self.shape):
            raise ValueError(f"({x}, {y}, {slice_index}) of the cache lies outside the original images")
        index = min(max(round(source), 0), self.shape[0] - 1)
        return (x_original, y_original, *self.images[index])

    def cached_pixels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Source indices of the cache's slices, rows and columns, along the source axes order[0], order[1], order[2].

        (count,), (SIZE,) and (SIZE,); rows and columns are fractional, and outside the images in the padding.
        """
        crop, pixels = self.crop, np.arange(SIZE)
        canonical = (
            crop.first + np.arange(crop.count),
            _resize(pixels, SIZE, crop.height) + crop.top,
            _resize(pixels, SIZE, crop.width) + crop.left,
        )
        source = self._to_source(canonical)
        return tuple(source[axis] for axis in self.order)

    def source_index(self, sop_uid: str, frame: int | None = None) -> int:
        """Index of an original image in slice order; ValueError as to_cache."""
        frames = {f: i for i, (uid, f) in enumerate(self.images) if uid == sop_uid}
        frames |= {f: i for uid, f, i in self.twins if uid == sop_uid}
        if not frames:
            raise ValueError(f"no image {sop_uid} in the series")
        if frame is None and len(frames) > 1:
            raise ValueError(f"{sop_uid} has {len(frames)} frames and none is named")
        if frame is None:
            return next(iter(frames.values()))
        if frame not in frames:
            raise ValueError(f"no frame {frame} in {sop_uid}: it has {len(frames)}")
        return frames[int(frame)]

    def _to_canonical(self, source: tuple) -> tuple:
        moved = (source[axis] for axis in self.order)
        lengths = (self.shape[axis] for axis in self.order)
        return tuple(n - 1 - v if f else v for v, n, f in zip(moved, lengths, self.flip, strict=True))

    def _to_source(self, canonical: tuple) -> tuple:
        source = [0.0, 0.0, 0.0]
        for value, axis, flip in zip(canonical, self.order, self.flip, strict=True):
            source[axis] = self.shape[axis] - 1 - value if flip else value
        return tuple(source)


def _inside(point: tuple, lengths: tuple) -> bool:
    return all(-0.5 - ROUNDING <= p <= n - 0.5 + ROUNDING for p, n in zip(point, lengths, strict=True))


def _resize(index: float, length: int, new_length: int) -> float:
    """The pixel index after resizing `length` pixels to `new_length`; the outer edges stay aligned."""
    return (index + 0.5) * new_length / length - 0.5
