"""`read_series` reads a folder of DICOM files as a stack of images in physical units, with geometry and warnings."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pydicom

from aneurysm.dicom.find import SeriesFiles
from aneurysm.dicom.frames import Frame
from aneurysm.dicom.geometry import Geometry
from aneurysm.dicom.hounsfield import hounsfield_shift
from aneurysm.dicom.intensity import header_rescales
from aneurysm.dicom.mapping import Crop, Mapping, square_crop
from aneurysm.dicom.pixels import decode_frame
from aneurysm.dicom.series_frames import series_frames
from aneurysm.dicom.series_type import series_type
from aneurysm.dicom.stack import stack_frames


@dataclass
class Series:
    """One series: its frames, canonical images (see geometry.py) and warnings.

    frames    source images in slice order, each with its file, SOP Instance UID and frame
    twins     (frame, index in `frames`) of frames left out because another one has their position
    type      CTA, MRA, MRI T2, MRI T1post, CT, MR or unknown, by the header
    warnings  sentences on images left out and values corrected or assumed
    pixels    (selected images, rows, columns) float32: Hounsfield units for CT, the scanner's units for MR
    shift_hu  correction to add to the header's Hounsfield units, from the pixels; 0 unless the header is wrong
    crop      the part of the canonical volume to cache; all of it until find_head has set it
    """

    uid: str
    folder: Path
    modality: str
    type: str
    patient_id: str
    frames: tuple[Frame, ...]
    twins: tuple[tuple[Frame, int], ...]
    geometry: Geometry
    warnings: list[str]
    crop: Crop
    pixels: np.ndarray | None = None
    shift_hu: float = 0.0
    _kept: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    _unreadable: set[int] = field(default_factory=set, repr=False)
    _volume: np.ndarray | None = field(default=None, repr=False)

    @property
    def n_slices(self) -> int:
        """Number of canonical slices."""
        return self.geometry.canonical_shape[0]

    @property
    def mapping(self) -> Mapping:
        """The mapping of points between the original images and the cache of `crop`."""
        images = tuple((frame.sop_uid, frame.index) for frame in self.frames)
        twins = tuple((frame.sop_uid, frame.index, kept) for frame, kept in self.twins)
        return Mapping(self.geometry.shape, self.geometry.order, self.geometry.flip, self.crop, images, twins)

    def to_cache(self, x: float, y: float, sop_uid: str, frame: int | None = None) -> tuple[float, float, float]:
        """See Mapping.to_cache."""
        return self.mapping.to_cache(x, y, sop_uid, frame)

    def to_original(self, x: float, y: float, slice_index: float) -> tuple[float, float, str, int]:
        """See Mapping.to_original."""
        return self.mapping.to_original(x, y, slice_index)

    def to_patient(self, x: float, y: float, sop_uid: str, frame: int | None = None) -> np.ndarray:
        """(3,) millimetres (LPS) of a pixel (column x, row y) of an original image."""
        return self.geometry.to_patient((self.mapping.source_index(sop_uid, frame), y, x))

    @property
    def scale(self) -> tuple[float, float]:
        """Slope and intercept that convert `images` to physical units."""
        slope, intercept = self._header_scales[0] if self._one_scale else (1.0, 0.0)
        return slope, intercept + self.shift_hu

    def correct_hounsfield(self, values: np.ndarray) -> None:
        """Sets `shift_hu` from `values` (slices, rows, columns; Hounsfield units by the header); CT only."""
        if self.modality != "CT":
            return
        slope, intercept = self._header_scales[0] if self._one_scale else (1.0, None)
        self.shift_hu, doubt = hounsfield_shift(values, slope, intercept)
        if self.shift_hu:
            self.warnings.append(f"the header's Hounsfield units are off by {-self.shift_hu:g}: corrected")
        if doubt:
            self.warnings.append(f"unsure whether the Hounsfield units are right: {doubt}")

    def images(self, indices: Iterable[int], threads: int = 1, keep: bool = False) -> Iterator[np.ndarray]:
        """Yields canonical images (rows, columns) in stored values; `scale` converts them to physical units.

        An image that cannot be decoded is blank, with a warning that names it. `threads` threads decode ahead of the
        caller. With `keep`, images stay in memory until they are read once more.
        """
        if self.geometry.resliced:
            volume = self._canonical_volume(threads)
            yield from (volume[i] for i in indices)
            return
        n_source, flip = self.geometry.shape[0], self.geometry.flip[0]
        sources = [n_source - 1 - i if flip else i for i in indices]
        for source, image in zip(sources, self._decode_ahead(sources, threads), strict=True):
            if keep:
                self._kept[source] = image
            yield self.geometry.turned(image)

    def without_pixels(self) -> Series:
        """A copy without pixels, small enough to send to another process that decodes."""
        return replace(self, pixels=None, _kept={}, _volume=None)

    @cached_property
    def _header_scales(self) -> list[tuple[float, float]]:
        return header_rescales(self.frames)[0]

    @cached_property
    def _one_scale(self) -> bool:
        return len(set(self._header_scales)) == 1

    def _canonical_volume(self, threads: int) -> np.ndarray:
        """(slices, rows, columns) the whole canonical volume of a re-sliced series; decoded once."""
        if self._volume is not None:
            return self._volume
        stored = {frame.storage.dtype for frame in self.frames}
        volume = np.empty(self.geometry.shape, np.result_type(*stored) if self._one_scale else np.float32)
        for i, image in enumerate(self._decode_ahead(range(len(self.frames)), threads)):
            volume[i] = image
        self._volume = self.geometry.turned(volume)
        return self._volume

    def _decode_ahead(self, sources: Iterable[int], threads: int) -> Iterator[np.ndarray]:
        if threads <= 1:
            yield from map(self._decode, sources)
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting = deque()
            for source in sources:
                waiting.append(pool.submit(self._decode, source))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            yield from (future.result() for future in waiting)

    def _decode(self, source: int) -> np.ndarray:
        """One source image in stored values, or in the header's units if the images differ in their rescale."""
        if source in self._kept:
            return self._kept.pop(source)
        frame, (slope, intercept) = self.frames[source], self._header_scales[source]
        try:
            image = decode_frame(frame)
        except ValueError as error:
            return self._blank(source, str(error))
        return image if self._one_scale else image.astype(np.float32) * np.float32(slope) + np.float32(intercept)

    def _blank(self, source: int, reason: str) -> np.ndarray:
        """An image below all tissue in place of one that cannot be decoded."""
        self._unreadable.add(source)
        self.warnings.append(f"an image is blank: {reason}")
        if len(self._unreadable) == len(self.frames):
            raise ValueError(f"{self.folder}: none of {len(self.frames)} images can be decoded; {reason}")
        storage, (slope, intercept) = self.frames[source].storage, self._header_scales[source]
        darkest = (-2000 - intercept) / slope if self.modality == "CT" else storage.highest if storage.inverted else 0
        if self._one_scale:
            limits = np.finfo(storage.dtype) if storage.floats else np.iinfo(storage.dtype)
            value = np.clip(darkest, limits.min, limits.max).astype(storage.dtype)
        else:
            value = np.float32(darkest * slope + intercept)
        return np.broadcast_to(value, self.geometry.shape[1:])  # takes no memory


def read_series(place: str | Path | SeriesFiles, select: Iterable[int] | None = None, threads: int = 1) -> Series:
    """The series in a folder (nested folders included), in one multi-frame file, or of the files from find_series.

    Reads the headers first, then only the pixels of the canonical slices in `select` (default: all; empty: none), with
    `threads` threads. For CT these pixels decide whether the header's rescale is right.

    Raises ValueError naming the folder, what was expected and what was found, if no image in it is readable.
    """
    series = _read_headers(place if isinstance(place, SeriesFiles) else Path(place))
    indices = list(range(series.n_slices) if select is None else select)
    if indices:
        slope, intercept = series.scale
        images = list(series.images(indices, threads))  # in stored values, which take half the memory
        series.pixels = np.empty((len(images), *images[0].shape), np.float32)
        for i, image in enumerate(images):
            np.multiply(image, np.float32(slope), out=series.pixels[i], casting="unsafe", dtype=np.float32)
        series.pixels += np.float32(intercept)
        series.correct_hounsfield(series.pixels[:, ::4, ::4])
        series.pixels += np.float32(series.shift_hu)
    return series


def _read_headers(place: Path | SeriesFiles) -> Series:
    folder, frames, warnings = series_frames(place)
    stack = stack_frames(frames, warnings)
    first = whole_header(stack.frames[0].storage.path)
    modality = str(first.get("Modality") or "")
    if modality not in ("CT", "MR"):
        warnings.append(f"expected modality CT or MR, found {modality or 'none'}: values are taken as they are")
    doubt = header_rescales(stack.frames)[1]
    warnings += [doubt] if doubt else []
    shape, spacing = stack.geometry.canonical_shape, stack.geometry.canonical_spacing
    named = folder.stem if folder.is_file() else folder.name
    return Series(
        uid=place.uid if isinstance(place, SeriesFiles) else stack.frames[0].series_uid or named,
        folder=folder,
        modality=modality,
        type=series_type(first),
        patient_id=str(first.get("PatientID") or ""),
        frames=stack.frames,
        twins=stack.twins,
        geometry=stack.geometry,
        warnings=warnings,
        crop=square_crop((0, shape[0]), (0, shape[1]), (0, shape[2]), spacing),
    )


def whole_header(path: Path, tags: list[str] | None = None) -> pydicom.Dataset:
    """All readable elements of a header (only `tags`, if given); empty if the file is damaged.

    For descriptions only: read_header is stricter about the elements that the pixels need.
    """
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
    except Exception:  # pydicom raises a different error for each kind of damage
        return pydicom.Dataset()
    for tag in list(dataset.keys()):
        try:
            dataset[tag]
        except Exception:
            del dataset[tag]
    return dataset
