"""Pictures of the strongest findings of a series: their slice, the slices around it, and the aneurysm heatmap."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import dist

import cv2
import numpy as np
import torch

from aneurysm.cache.windows import crop_box
from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.dicom.mapping import SIZE
from aneurysm.inference.models import Model
from aneurysm.inference.peaks import Curves, Peak
from aneurysm.inference.sampled import SampledSeries, Shown
from aneurysm.inference.slab import Slab, slabs_around
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.stage1.config import InputConfig
from aneurysm.stage1.extract import Encoder
from aneurysm.stage1.sample import mirror_images

APART_MM = 10.0  # between two pictures, at least: heatmaps of neighbouring locations often share a peak


@dataclass(frozen=True)
class Picture:
    """One slice of the cache: a square with square pixels; axial and coronal slices as radiologists view them.

    It shows a finding. Without heatmaps there is none: then it shows one of the most suspicious slices.

    slice        index in the cache
    position_mm  along the slice axis, in patient coordinates
    probability  of the finding; without heatmaps, of Aneurysm Present in this slice
    location     of the finding; without heatmaps, the most probable one in this slice
    slab         this slice and those around it
    heatmap      (512, 512) float32 in [0, 1]: of an aneurysm at each pixel; 0 outside the crop; NaN without heatmaps
    x, y         place of the finding in the slice, in pixels; NaN without heatmaps
    pixel_mm     side of a pixel
    sop_uid, frame, file    the nearest original image; the frame 0-based
    column, row  of the finding in that image, pixel centres on whole numbers; NaN without heatmaps
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


@dataclass(frozen=True)
class _Target:
    """What a picture is to show, as in Picture; `place_mm` in the patient, without heatmaps along the slice axis."""

    window: int
    place_mm: tuple[float, ...]
    probability: float
    location: str
    x: float
    y: float
    column: float
    row: float
    sop_uid: str
    frame: int


def take_pictures(
    models: Sequence[Model],
    series: SampledSeries,
    inputs: Sequence[InputConfig],
    curves: Curves,
    peaks: Sequence[Peak],
    n: int,
) -> tuple[Picture, ...]:
    """Pictures of the n highest peaks that are at least APART_MM apart, highest first; without peaks, of such slices.

    Runs `models` on these slices once more, for their heatmaps.
    """
    if n == 0:
        return ()
    targets = _apart([_finding(peak, series) for peak in peaks] or _slices(curves, series), n)
    windows = [target.window for target in targets]
    maps = [found for model in models for found in _maps(model, series, inputs, windows)]
    heatmaps = np.mean(maps, axis=0) if maps else np.full((len(windows), SIZE, SIZE), np.nan, np.float32)
    slabs = slabs_around(series.slices, series.position_mm, series.index[windows].tolist())
    return tuple(_picture(series, *own) for own in zip(targets, heatmaps, slabs, strict=True))


def _finding(peak: Peak, series: SampledSeries) -> _Target:
    return _Target(
        window=int(np.flatnonzero(series.index == peak.slice)[0]),
        place_mm=peak.patient_mm,
        probability=peak.probability,
        location=peak.location,
        x=peak.cache_x,
        y=peak.cache_y,
        column=peak.x,
        row=peak.y,
        sop_uid=peak.sop_uid,
        frame=peak.frame,
    )


def _slices(curves: Curves, series: SampledSeries) -> list[_Target]:
    """Every window, with the image at its centre; no point is marked in it."""
    return [
        _Target(
            window,
            (position_mm,),
            float(probability[LABELS.index(PRESENT)]),
            LOCATIONS[int(probability[: len(LOCATIONS)].argmax())],
            *[np.nan] * 4,
            *_central_image(series, number),
        )
        for window, (number, position_mm, probability) in enumerate(
            zip(curves.slice.tolist(), curves.position_mm.tolist(), curves.probability, strict=True)
        )
    ]


def _central_image(series: SampledSeries, number: int) -> tuple[str, int]:
    """SOP Instance UID and frame of the image at the centre of a slice; the first image if the crop has none there."""
    middle = (SIZE - 1) / 2
    with suppress(ValueError):  # a crop that reaches far beyond the image
        return series.mapping.to_original(middle, middle, number)[2:]
    return series.mapping.images[0]


def _apart(targets: Sequence[_Target], n: int) -> list[_Target]:
    """At most n, the highest probability first, each at least APART_MM from those before it."""
    chosen: list[_Target] = []
    for target in sorted(targets, key=lambda target: -target.probability):
        if len(chosen) < n and all(dist(target.place_mm, other.place_mm) >= APART_MM for other in chosen):
            chosen.append(target)
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


def _picture(series: SampledSeries, target: _Target, heatmap: np.ndarray, slab: Slab) -> Picture:
    number = int(series.index[target.window])
    return Picture(
        slice=number,
        position_mm=float(series.position_mm[number]),
        probability=target.probability,
        location=target.location,
        slab=slab,
        heatmap=heatmap,
        x=target.x,
        y=target.y,
        pixel_mm=series.mapping.crop.width * series.geometry.canonical_spacing[2] / SIZE,
        sop_uid=target.sop_uid,
        frame=target.frame,
        file=series.files[series.mapping.source_index(target.sop_uid, target.frame)].name,
        column=target.column,
        row=target.row,
    )
