"""Stage 1's probabilities along a series, and where its heatmaps peak in the original images and in the patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aneurysm.cache.features import SeriesFeatures
from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.dicom.mapping import SIZE
from aneurysm.inference.sampled import SampledSeries
from aneurysm.labels import LOCATIONS
from aneurysm.stage1.sample import mirror_logits


@dataclass(frozen=True)
class Curves:
    """Stage 1's probabilities along the series, the mean over models and views.

    slice        (windows,) index in the cache
    position_mm  (windows,) along the slice axis, increasing, in patient coordinates
    probability  (windows, 14) in the order of LABELS
    """

    slice: np.ndarray
    position_mm: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Peak:
    """The peak of one location's heatmaps in a series, in the nearest original image.

    probability  in [0, 1]: maximum of the heatmap in its slice, the mean over models and views; with volume3d, its
                 log-odds at this place are averaged in
    slice        index in the cache; in re-sliced series it cuts across the images
    cache_x, cache_y  column and row in that slice
    frame        0-based, in `file`
    x, y         column and row in the original image, pixel centres on whole numbers
    patient_mm   (left, back, up): LPS
    """

    location: str
    probability: float
    slice: int
    cache_x: float
    cache_y: float
    file: Path
    sop_uid: str
    frame: int
    x: float
    y: float
    patient_mm: tuple[float, float, float]


def curves(features: Sequence[SeriesFeatures], series: SampledSeries) -> Curves:
    """The curves from the features of several models, all of the same windows."""
    predicted = []
    for own in features:
        for view, logits in zip(own.views, own.logits, strict=True):
            probability = _sigmoid(logits)
            predicted.append(mirror_logits(probability) if view == "mirror" else probability)
    return Curves(series.index, series.position_mm[series.index], np.mean(predicted, axis=0))


Blend = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (probabilities, places in the source) to probabilities


def find_peaks(
    features: Sequence[SeriesFeatures], series: SampledSeries, blend: Blend | None = None
) -> tuple[Peak, ...]:
    """The peak of each location, in their order, from models with heatmaps; peaks outside the images are left out.

    `blend` changes the heatmaps' maxima (windows, 13) by other evidence at their places (windows, 13, 3), which are
    images, rows and columns of the source.
    """
    predicted = [view for own in features for view in _views(own, series.geometry.plane) if np.isfinite(view[0]).all()]
    if not predicted:
        return ()
    highest, x, y = (np.stack(arrays) for arrays in zip(*predicted, strict=True))  # (models and views, windows, 14)
    mean, surest = highest.mean(axis=0), highest.argmax(axis=0)[None]
    x, y = (np.take_along_axis(places, surest, axis=0)[0] for places in (x, y))
    if blend is not None:
        n = len(LOCATIONS)
        mean = blend(mean[:, :n], _source(series, x[:, :n], y[:, :n]))
    peaks = []
    for i, location in enumerate(LOCATIONS):
        window = int(mean[:, i].argmax())
        place = x[window, i], y[window, i]
        peak = _placed(location, float(mean[window, i]), int(series.index[window]), place, series)
        peaks += [peak] if peak is not None else []
    return tuple(peaks)


def _source(series: SampledSeries, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(windows, n, 3) image, row and column of the source, with fractions, at x and y of the cache (windows, n)."""
    (images, rows, columns), pixels = series.mapping.cached_pixels(), np.arange(SIZE)
    along = (
        images[series.index][:, None] + np.zeros(x.shape),
        np.interp(y, pixels, rows),
        np.interp(x, pixels, columns),
    )
    source = np.empty((*x.shape, 3))
    for axis, values in zip(series.mapping.order, along, strict=True):
        source[..., axis] = values
    return source


def _views(features: SeriesFeatures, plane: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each view the heatmaps' maxima in [0, 1] and their x, y in pixels of the cache, (windows, 14); those of the
    mirrored view are flipped back."""
    found = []
    for number, view in enumerate(features.views):
        arrays = (features.heatmap_max, features.peak_x, features.peak_y)
        highest, x, y = (array[number].astype(float) for array in arrays)
        if view == "mirror":
            highest, x, y = (mirror_logits(array) for array in (highest, x, y))
            x = 1 - x if left_right_in_columns(plane) else x
        found.append((_sigmoid(highest), x * SIZE - 0.5, y * SIZE - 0.5))
    return found


def _placed(
    location: str, probability: float, number: int, place: tuple[float, float], series: SampledSeries
) -> Peak | None:
    """A point of the cache in the original images; None if it lies in the padding around them."""
    try:
        x, y, sop_uid, frame = series.mapping.to_original(*place, number)
    except ValueError:
        return None
    image = series.mapping.source_index(sop_uid, frame)
    patient_mm = tuple(series.geometry.to_patient((image, y, x)).tolist())
    cached, original = map(float, place), (series.files[image], sop_uid, frame, float(x), float(y))
    return Peak(location, probability, number, *cached, *original, patient_mm)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(float)))
