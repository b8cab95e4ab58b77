"""One series from DICOM to the input of stage 1; decodes only the slices that the windows need.

Every step uses the same functions as the cache and its windows.
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
    """How each series is read: with the settings of the training."""

    settings: CacheSettings
    slice_spacing_mm: float  # distance between windows along the series; 0: every slice
    inputs: tuple[InputConfig, ...]  # of the encoders, without duplicates
    threads: int = 1  # that decode one series
    keep_slices: bool = False  # keep whole slices, for pictures
    volumes: VolumeSettings | None = None  # of volume3d, if it is used


@dataclass(frozen=True)
class Shown:
    """Input of the encoders with one InputConfig.

    images  (n, image_size, image_size) float32 in [0, 1]; each slice once
    rows    (windows, n_slices) int64 index in `images` of the slices of each window, from below to above
    """

    images: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class SampledSeries:
    """A series with the slices that its windows need.

    index        (windows,) slice in the cache that each window is centred on
    position_mm  (slices,) of all slices that the cache would hold, along the slice axis, increasing
    shown        one for each of Request.inputs
    slices       the decoded slices, whole; None without Request.keep_slices
    volume       for volume3d; None if it is not used
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
        """Only every step-th window."""
        shown = tuple(replace(one, rows=one.rows[::step]) for one in self.shown)
        return replace(self, index=self.index[::step], shown=shown)

    def without_images(self) -> SampledSeries:
        """Without pixels, small enough to keep for many series."""
        return replace(self, shown=(), slices=None, volume=None)


@dataclass(frozen=True)
class Unreadable:
    """A series that cannot be read, and the reason."""

    reason: str


def read_sampled(place: Path | SeriesFiles, request: Request) -> SampledSeries | Unreadable:
    """A series, from its folder or its SeriesFiles. Never raises: errors are returned as Unreadable."""
    cv2.setNumThreads(1)
    try:
        return _read(place, request)
    except ValueError as error:
        return Unreadable(str(error))
    except Exception as error:  # one bad series must not stop the others
        return Unreadable(f"{type(error).__name__}: {error}")


def died(place: Path | SeriesFiles) -> Unreadable:
    """The result for a series whose worker process was killed (out of memory, a crash in a decoder)."""
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
    """For each input the crops of its slices (n, image_size, image_size), and whole slices if they are to be kept.

    Each slice is decoded once. Of a re-sliced series all slices are kept, since its images are all decoded anyway.
    """
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
    """The volume of a series, from its folder or its SeriesFiles. Never raises: an error becomes its `failure`."""
    from volume3d.make_volume import volume_of
    from volume3d.patient import PATIENT_KEYS, patient_inputs
    from volume3d.series_volume import SeriesVolume

    unknown = patient_inputs(None, None, None)
    try:
        voxels, _, grid, _ = volume_of(place, settings)
        patient = tuple(unknown[key] for key in PATIENT_KEYS)
        return SeriesVolume(voxels, tuple(grid.spacing_mm), patient, grid)
    except Exception as error:  # the first system can still predict
        return SeriesVolume(failure=f"{type(error).__name__}: {error}")


def _first(warnings: list[str]) -> str:
    return warnings[0] if warnings else "no warning"
