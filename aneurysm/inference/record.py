"""The prediction for one series as a dict, which is saved as report/<uid>.json; record_of lists its keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from aneurysm.inference.peaks import Peak
from aneurysm.inference.prediction import Prediction
from aneurysm.inference.sampled import SampledSeries
from aneurysm.labels import LABELS

FORMAT = 1
DIGITS = 4


def record_of(
    prediction: Prediction, prevalence: np.ndarray, bundle: dict[str, str], files: str = ""
) -> dict[str, Any]:
    """The prediction as a dict; if the series failed, `failure` gives the reason and there are no probabilities.

    `prevalence` (14,) of the training data, `bundle` from bundle_identity, `files` from SeriesFiles.fingerprint.
    Positions are millimetres in the patient (LPS); x and y are column and row in the original image, pixel centres on
    whole numbers; frames count from 0.
    """
    series = prediction.series
    return {
        "format": FORMAT,
        "series_uid": prediction.uid,
        "place": str(prediction.folder),
        "failure": prediction.failure,
        "probabilities": None if prediction.failure else _by_label(prediction.probabilities),
        "prevalence": _by_label(prevalence),
        "type": series.type if series else None,
        "plane": series.geometry.plane if series else None,
        "warnings": _warnings(prediction),
        "left_out": list(prediction.left_out),
        "geometry": _geometry(series) if series else None,
        "curves": _curves(prediction) if prediction.curves else None,
        "findings": [_finding(peak, series) for peak in sorted(prediction.peaks, key=lambda peak: -peak.probability)],
        "seconds": {step: round(seconds, 3) for step, seconds in prediction.seconds.items()},
        "bundle": bundle,
        "files": files,
    }


def _warnings(prediction: Prediction) -> list[str]:
    """Without the last one if the series failed: it only repeats `failure`."""
    return list(prediction.warnings[:-1] if prediction.failure else prediction.warnings)


def _geometry(series: SampledSeries) -> dict[str, Any]:
    geometry = series.geometry
    images, rows, columns = geometry.shape
    return {
        "images": images,
        "rows": rows,
        "columns": columns,
        "spacing_mm": _rounded(geometry.spacing),
        "orientation": _rounded(geometry.orientation),
        "first_position_mm": _rounded(geometry.positions[0]),
        "last_position_mm": _rounded(geometry.positions[-1]),
        "resliced": geometry.resliced,
    }


def _curves(prediction: Prediction) -> dict[str, Any]:
    """By window; in a re-sliced series a window cuts across the images and has no SOP Instance UID."""
    curves, series = prediction.curves, prediction.series
    images = None if series.geometry.resliced else [_own_image(series, number) for number in curves.slice.tolist()]
    return {
        "slice": curves.slice.tolist(),
        "position_mm": _rounded(curves.position_mm),
        "sop_instance_uid": None if images is None else [sop_uid for sop_uid, _ in images],
        "frame": None if images is None else [frame for _, frame in images],
        "probability": {label: _rounded(curves.probability[:, i]) for i, label in enumerate(LABELS)},
    }


def _own_image(series: SampledSeries, number: int) -> tuple[str, int]:
    """SOP Instance UID and frame of the image of a cached slice, in series that are not re-sliced."""
    canonical = series.mapping.crop.first + number
    n_images = series.geometry.shape[0]
    return series.mapping.images[n_images - 1 - canonical if series.geometry.flip[0] else canonical]


def _finding(peak: Peak, series: SampledSeries) -> dict[str, Any]:
    return {
        "location": peak.location,
        "probability": round(peak.probability, DIGITS),
        "slice": peak.slice,
        "position_mm": round(float(series.position_mm[peak.slice]), DIGITS),
        "sop_instance_uid": peak.sop_uid,
        "file": peak.file.name,
        "frame": peak.frame,
        "x": round(peak.x, 2),
        "y": round(peak.y, 2),
        "patient_mm": _rounded(peak.patient_mm),
    }


def _by_label(values: np.ndarray) -> dict[str, float]:
    return dict(zip(LABELS, _rounded(values, 6), strict=True))


def _rounded(values, digits: int = DIGITS) -> list[float]:
    return [round(float(value), digits) for value in values]
