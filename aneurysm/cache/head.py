"""Finds the head in a series from a few of its slices: slice range, square crop, and for MR the intensity window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from aneurysm.dicom.geometry import Geometry
from aneurysm.dicom.intensity import Window, mr_window
from aneurysm.dicom.mapping import Crop, square_crop
from aneurysm.dicom.series import Series

SAMPLES = 24  # sampled slices
GRID_MM = 2.0  # distance between sampled pixels
THIN_MM = 8.0  # thinner structures are not the head: head rests, blankets, tubes
AREA_MM2 = 1200.0  # smaller sections are not the head
TISSUE_HU, TISSUE_MR = -250.0, 0.12  # lower limits of tissue; MR: as a fraction from 2nd to 98th percentile
MARGIN = 0.04  # added around the head, as a fraction of its size


def find_head(
    series: Series,
    ct_window: Window,
    head_mm: float,
    threads: int = 1,
    mr: Callable[[np.ndarray, np.ndarray], Window] = mr_window,
) -> Window:
    """Sets the series' `crop` to the head and, for CT, corrects Hounsfield units that the pixels prove wrong.

    Keeps the top `head_mm` of the head (0: all slices). Returns the window that maps values to [0, 1]: `ct_window`,
    or for MR the result of `mr(sampled values, head mask)`. The sampled slices stay in memory for the next pass over
    the series. Raises ValueError naming the folder if these are all images of the series and none can be decoded.
    """
    indices, steps = looked_at(series.geometry)
    slope, intercept = series.scale
    images = [image[:: steps[0], :: steps[1]] for image in series.images(indices, threads, keep=True)]
    values = np.stack(images).astype(np.float32) * np.float32(slope) + np.float32(intercept)
    series.correct_hounsfield(values)
    values += np.float32(series.shift_hu)
    head = head_mask(_tissue(values, series.modality), series.geometry, steps)
    if head.any():
        series.crop = head_crop(series.geometry, indices, head, steps, head_mm)
    else:
        series.warnings.append("no head found: the whole image is kept")
    inside = (indices >= series.crop.first) & (indices < series.crop.first + series.crop.count)
    return ct_window if series.modality == "CT" else mr(values[inside], head[inside])


def looked_at(geometry: Geometry) -> tuple[np.ndarray, tuple[int, int]]:
    """Indices (n,) of the sampled canonical slices, and the steps in rows and columns between sampled pixels."""
    indices = np.unique(np.linspace(0, geometry.canonical_shape[0] - 1, SAMPLES).round().astype(int))
    _, row_mm, col_mm = geometry.canonical_spacing
    return indices, (max(1, round(GRID_MM / row_mm)), max(1, round(GRID_MM / col_mm)))


def head_mask(tissue: np.ndarray, geometry: Geometry, steps: tuple[int, int]) -> np.ndarray:
    """(slices, rows, columns) bool: the head in the tissue mask (bool) of the sampled pixels."""
    _, row_mm, col_mm = geometry.canonical_spacing
    return np.stack([_largest_part(image, (steps[0] * row_mm, steps[1] * col_mm)) for image in tissue])


def _tissue(values: np.ndarray, modality: str) -> np.ndarray:
    if modality == "CT":
        return values > TISSUE_HU
    return mr_tissue(values)


def mr_tissue(values: np.ndarray) -> np.ndarray:
    """Tissue mask (bool) of sampled MR values, in their shape."""
    low, high = np.percentile(values, (2, 98))
    return values > low + TISSUE_MR * (high - low)


def _largest_part(tissue: np.ndarray, grid_mm: tuple[float, float]) -> np.ndarray:
    """The largest connected part of one slice's mask, without thin structures; empty if it is too small for a head."""
    filled = cv2.morphologyEx(tissue.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, tuple(max(1, round(THIN_MM / mm)) for mm in grid_mm[::-1]))
    opened = cv2.morphologyEx(filled, cv2.MORPH_OPEN, kernel)
    n_parts, parts, stats, _ = cv2.connectedComponentsWithStats(opened)
    if n_parts < 2:
        return np.zeros_like(tissue)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    big = stats[largest, cv2.CC_STAT_AREA] * grid_mm[0] * grid_mm[1] >= AREA_MM2
    return (parts == largest) & big


def head_crop(
    geometry: Geometry, indices: np.ndarray, head: np.ndarray, steps: tuple[int, int], head_mm: float
) -> Crop:
    """The square around the head, limited to its top `head_mm` (0: all): along the slices if axial, else the rows.

    `head` (slices, rows, columns) bool, not empty: the mask of the slices `indices`, rows and columns sampled every
    `steps`.
    """
    spacing, shape = geometry.canonical_spacing, geometry.canonical_shape
    first, last = 0, shape[0]
    rows_kept = slice(None)
    if head_mm > 0 and geometry.plane == "axial":
        first, last = _top_slices(geometry, indices, head, head_mm)
        head = head[(indices >= first) & (indices < last)]
    elif head_mm > 0:
        top = int(np.flatnonzero(head.any(axis=(0, 2)))[0])
        rows_kept = slice(0, top + int(np.ceil(head_mm / (steps[0] * spacing[1]))))
    rows = _span(head[:, rows_kept].any(axis=(0, 2)), steps[0], shape[1])
    cols = _span(head[:, rows_kept].any(axis=(0, 1)), steps[1], shape[2])
    return square_crop((first, last), rows, cols, spacing)


def _top_slices(geometry: Geometry, indices: np.ndarray, head: np.ndarray, head_mm: float) -> tuple[int, int]:
    """First and last (exclusive) slice of the top of the head, rounded outwards to a sampled slice at the top."""
    position_mm = geometry.slice_positions_mm()
    highest = int(np.flatnonzero(head.any(axis=(1, 2)))[-1])
    above = indices[min(highest + 1, len(indices) - 1)]
    top_mm = position_mm[indices[highest]]
    return int(np.searchsorted(position_mm, top_mm - head_mm - 1e-6)), int(above) + 1


def _span(present: Sequence[bool], step: int, length: int) -> tuple[float, float]:
    """Range from the first to the last True, in pixels of the image, with a margin."""
    found = np.flatnonzero(present)
    low, high = found[0] * step, min(found[-1] * step + step, length)
    margin = MARGIN * (high - low)
    return low - margin, high + margin
