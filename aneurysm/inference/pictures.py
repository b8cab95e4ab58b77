"""Pictures of the most suspicious slices of a series, with the slices around them and the aneurysm heatmap."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from aneurysm.cache.windows import crop_box
from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.dicom.mapping import SIZE
from aneurysm.inference.models import Model
from aneurysm.inference.peaks import Curves
from aneurysm.inference.sampled import SampledSeries, Shown
from aneurysm.inference.slab import Slab, slabs_around
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.stage1.config import InputConfig
from aneurysm.stage1.extract import Encoder
from aneurysm.stage1.sample import mirror_images

APART_MM = 6.0  # between two pictures, at least: neighbours look alike


@dataclass(frozen=True)
class Picture:
    """One slice of the cache: a square with square pixels; axial and coronal slices as radiologists view them.

    slice        index in the cache
    position_mm  along the slice axis, in patient coordinates
    probability  of Aneurysm Present in this slice by stage 1, the mean over models and views
    location     the most probable location in this slice
    slab         this slice and those around it
    heatmap      (512, 512) float32 in [0, 1]: of an aneurysm at each pixel; 0 outside the crop; NaN without heatmaps
    x, y         maximum of the heatmap, in pixels; NaN without heatmaps
    pixel_mm     side of a pixel
    sop_uid, frame, file    the nearest original image; the frame 0-based
    column, row  of the maximum in that image, pixel centres on whole numbers; NaN if outside, or without heatmaps
    """

    slice: int
    position_mm: float
    probability: float
    location: str
    slab: Slab
    heatmap: np.ndarray
    x: float
    y: float
    pixel_mm: float
    sop_uid: str
    frame: int
    file: str
    column: float
    row: float

    @property
    def image(self) -> np.ndarray:
        """(512, 512) uint8"""
        return self.slab.images[self.slab.middle]


def take_pictures(
    models: Sequence[Model], series: SampledSeries, inputs: Sequence[InputConfig], curves: Curves, n: int
) -> tuple[Picture, ...]:
    """Pictures of the n most suspicious slices that lie apart, highest first; runs `models` on them once more."""
    if n == 0:
        return ()
    windows = _highest_apart(curves, n)
    maps = [found for model in models for found in _maps(model, series, inputs, windows)]
    heatmap = np.mean(maps, axis=0) if maps else np.full((len(windows), SIZE, SIZE), np.nan, np.float32)
    slabs = slabs_around(series.slices, series.position_mm, series.index[windows].tolist())
    return tuple(_picture(series, curves, *own) for own in zip(windows, heatmap, slabs, strict=True))


def _highest_apart(curves: Curves, n: int) -> list[int]:
    """Windows with the highest probability, each at least APART_MM from those chosen before."""
    chosen: list[int] = []
    for window in np.argsort(-curves.probability[:, LABELS.index(PRESENT)], kind="stable").tolist():
        away = np.abs(curves.position_mm[chosen] - curves.position_mm[window])
        if len(chosen) < n and (away >= APART_MM).all():
            chosen.append(window)
    return chosen


def _maps(model: Model, series: SampledSeries, inputs: Sequence[InputConfig], windows: list[int]) -> list[np.ndarray]:
    """(windows, 512, 512) for each view; empty if the model has no heatmaps."""
    shown, plane = series.shown[inputs.index(model.config1.input)], series.geometry.plane
    box = crop_box(model.config1.input, plane)
    maps = []
    for view, encoder in model.encoders[0].items():
        found = _found(encoder, shown, windows, plane, view)
        if found is None:
            return []
        whole = np.zeros((len(windows), SIZE, SIZE), np.float32)
        for own, small in zip(whole, found, strict=True):
            own[box.part] = cv2.resize(small, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
        maps.append(whole)
    return maps


@torch.inference_mode()
def _found(encoder: Encoder, shown: Shown, windows: list[int], plane: str, view: str) -> np.ndarray | None:
    """(windows, n, n) probability of an aneurysm at each pixel, a mirrored view flipped back; None without heatmaps."""
    images = torch.from_numpy(shown.images[shown.rows[windows]]).to(encoder.device)
    in_columns = left_right_in_columns(plane)
    if view == "mirror":
        images = mirror_images(images, torch.full((len(images),), in_columns, device=encoder.device))
    with encoder.precision.autocast():
        outputs = encoder.model(images.contiguous(memory_format=torch.channels_last))
    if "aneurysm_map" not in outputs:
        return None
    found = outputs["aneurysm_map"][:, 0].float().sigmoid()
    found = found.flip(2) if view == "mirror" and in_columns else found
    return found.cpu().numpy()


def _picture(series: SampledSeries, curves: Curves, window: int, heatmap: np.ndarray, slab: Slab) -> Picture:
    number, probability = int(series.index[window]), curves.probability[window]
    x = y = np.nan
    if np.isfinite(heatmap).all():
        y, x = map(float, np.unravel_index(heatmap.argmax(), heatmap.shape))
    column, row, sop_uid, frame = _original(series, number, x, y)
    return Picture(
        slice=number,
        position_mm=float(series.position_mm[number]),
        probability=float(probability[LABELS.index(PRESENT)]),
        location=LOCATIONS[int(probability[: len(LOCATIONS)].argmax())],
        slab=slab,
        heatmap=heatmap,
        x=x,
        y=y,
        pixel_mm=series.mapping.crop.width * series.geometry.canonical_spacing[2] / SIZE,
        sop_uid=sop_uid,
        frame=frame,
        file=series.files[series.mapping.source_index(sop_uid, frame)].name,
        column=column,
        row=row,
    )


def _original(series: SampledSeries, number: int, x: float, y: float) -> tuple[float, float, str, int]:
    """Column, row, SOP Instance UID and frame of a point; NaN and the image at the slice's centre if it is in none."""
    with suppress(ValueError):  # in the padding around the images, or NaN
        return series.mapping.to_original(x, y, number)
    with suppress(ValueError):  # a crop that reaches far beyond the image
        middle = (SIZE - 1) / 2
        return (np.nan, np.nan, *series.mapping.to_original(middle, middle, number)[2:])
    return (np.nan, np.nan, *series.mapping.images[0])
