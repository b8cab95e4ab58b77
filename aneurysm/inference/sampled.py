"""One series from DICOM to what stage 1 is shown of it: only the slices that the sampling needs are decoded.

Every step is the function that the cache and its windows are made with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import cv2
import numpy as np

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.slices import cached_positions_mm, cached_slices, find_slices
from aneurysm.cache.windows import crop_box, neighbours, sampled_slices, seen_part
from aneurysm.dicom.find import SeriesFiles
from aneurysm.dicom.geometry import Geometry
from aneurysm.dicom.intensity import Window
from aneurysm.dicom.mapping import SIZE, Mapping
from aneurysm.dicom.series import Series, read_series
from aneurysm.inference.slab import WholeSlices, as_bytes
from aneurysm.stage1.config import InputConfig

if TYPE_CHECKING:
    from volume3d.config import VolumeSettings
    from volume3d.series_volume import SeriesVolume


@dataclass(frozen=True)
class Request:
    """What is wanted of each series: as it was in training."""

    settings: CacheSettings
    slice_spacing_mm: float  # distance of the windows along the series; 0 for every slice
    inputs: tuple[InputConfig, ...]  # what the encoders see, each kind once
    threads: int = 1  # that decode within a series
    keep_slices: bool = False  # whole, for pictures
    volumes: VolumeSettings | None = None  # of volume3d, where it is asked, too


@dataclass(frozen=True)
class Shown:
    """What encoders of one InputConfig are shown.

    images  (n, image_size, image_size) float32 in [0, 1]; each slice once
    rows    (windows, 3) int64 index in `images` of the slices below, at and above each window's own
    """

    images: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class SampledSeries:
    """A series as far as its windows need it.

    index        (windows,) slice in the cache that each window is centred on
    position_mm  (slices,) of all slices that the cache would hold, along the slice axis, increasing
    shown        one for each of Request.inputs
    slices       the slices that were decoded, whole; None where they were not to be kept
    volume       for volume3d; None where it is not asked
    files        the file of each source image, in the order of mapping.images
    """

    uid: str
    type: str
    index: np.ndarray
    position_mm: np.ndarray
    shown: tuple[Shown, ...]
    slices: WholeSlices | None
    geometry: Geometry
    mapping: Mapping
    files: tuple[Path, ...]
    warnings: list[str]
    headers_s: float
    decode_s: float
    volume: SeriesVolume | None = None

    def thinned(self, step: int) -> SampledSeries:
        """Every step-th window alone."""
        shown = tuple(replace(one, rows=one.rows[::step]) for one in self.shown)
        return replace(self, index=self.index[::step], shown=shown)

    def without_images(self) -> SampledSeries:
        """What can be kept of many series."""
        return replace(self, shown=(), slices=None, volume=None)


@dataclass(frozen=True)
class Unreadable:
    """A series that there is nothing to be said of, and why."""

    reason: str


def read_sampled(place: Path | SeriesFiles, request: Request) -> SampledSeries | Unreadable:
    """A series, from the folder of its DICOM files or from these. Never raises: what goes wrong is Unreadable."""
    cv2.setNumThreads(1)
    try:
        return _read(place, request)
    except ValueError as error:
        return Unreadable(str(error))
    except Exception as error:  # whatever one series brings, the others go on
        return Unreadable(f"{type(error).__name__}: {error}")


def died(place: Path | SeriesFiles) -> Unreadable:
    """In place of a series whose worker process was killed (out of memory, a crash in a decoder)."""
    return Unreadable(f"{getattr(place, 'folder', place)}: its worker process was killed twice")


def _read(place: Path | SeriesFiles, request: Request) -> SampledSeries:
    start = perf_counter()
    series = read_series(place, select=())
    read = perf_counter()
    window = find_slices(series, request.settings, request.threads)
    position_mm = cached_positions_mm(series)
    index = sampled_slices(position_mm, request.slice_spacing_mm)
    windows = [
        np.array([neighbours(position_mm, i, config.neighbour_mm, config.n_slices) for i in index.tolist()])
        for config in request.inputs
    ]
    needed = [np.unique(own) for own in windows]
    images, slices = _decode(series, window, request, needed)
    if all(np.ptp(own) == 0 for own in images):
        raise ValueError(
            f"{series.folder}: expected images of a head, found all of one value; {_first(series.warnings)}"
        )
    volume = _volume(place, request.volumes) if request.volumes else None
    rows = [np.searchsorted(own, window) for own, window in zip(needed, windows, strict=True)]
    return SampledSeries(
        uid=series.uid,
        type=series.type,
        index=index,
        position_mm=position_mm,
        shown=tuple(Shown(*own) for own in zip(images, rows, strict=True)),
        slices=slices,
        geometry=series.geometry,
        mapping=series.mapping,
        files=tuple(frame.storage.path for frame in series.frames),
        warnings=series.warnings,
        headers_s=read - start,
        decode_s=perf_counter() - read,
        volume=volume,
    )


def _decode(
    series: Series, window: Window, request: Request, needed: list[np.ndarray]
) -> tuple[list[np.ndarray], WholeSlices | None]:
    """For each input the parts of its needed slices (n, image_size, image_size), and these slices whole where they are
    to be kept, of a re-sliced series, whose images are all decoded at once, every one; each is decoded once."""
    boxes = [crop_box(config, series.geometry.plane) for config in request.inputs]
    images = [
        np.empty((len(own), c.image_size, c.image_size), np.float32)
        for own, c in zip(needed, request.inputs, strict=True)
    ]
    numbers = np.unique(np.concatenate(needed))
    if request.keep_slices and series.geometry.resliced:
        numbers = np.arange(series.crop.count)
    kept = np.empty((len(numbers), SIZE, SIZE), np.uint8) if request.keep_slices else None
    for i, whole in enumerate(cached_slices(series, window, numbers.tolist(), request.threads)):
        for own, box, out in zip(needed, boxes, images, strict=True):
            row = np.searchsorted(own, numbers[i])
            if row < len(own) and own[row] == numbers[i]:
                out[row] = seen_part(whole, box)
        if kept is not None:
            kept[i] = as_bytes(whole)
    return images, None if kept is None else WholeSlices(numbers, kept, series.without_pixels(), window)


def _volume(place: Path | SeriesFiles, settings: VolumeSettings) -> SeriesVolume:
    """The volume of a series, from the folder of its files or from these. Never raises: what goes wrong is its
    `failure`."""
    from volume3d.make_volume import volume_of
    from volume3d.patient import PATIENT_KEYS, patient_inputs
    from volume3d.series_volume import SeriesVolume

    unknown = patient_inputs(None, None, None)
    try:
        voxels, _, grid, _ = volume_of(place, settings)
        return SeriesVolume(voxels, tuple(grid.spacing_mm), tuple(unknown[key] for key in PATIENT_KEYS))
    except Exception as error:  # whatever it is, the first system has its own answer
        return SeriesVolume(failure=f"{type(error).__name__}: {error}")


def _first(warnings: list[str]) -> str:
    return warnings[0] if warnings else "no warning"
