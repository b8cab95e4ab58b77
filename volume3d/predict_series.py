"""Predictions for series of DICOM files, and their table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from aneurysm.dicom.find import SeriesFiles
from aneurysm.escape import cell
from aneurysm.labels import LABELS, PRESENT
from aneurysm.parallel import prefetch_map
from volume3d.ensemble import Ensemble
from volume3d.series_volume import SeriesVolume, died, read_series_volume


@dataclass(frozen=True)
class Prediction:
    """(14,) probabilities of one series, or None and the reason for the failure."""

    uid: str
    probabilities: np.ndarray | None = None
    failure: str = ""
    warnings: tuple[str, ...] = ()


def predict_all(found: Sequence[SeriesFiles], ensemble: Ensemble, workers: int) -> Iterator[Prediction]:
    """The prediction of each series, in order; `workers` processes read ahead, and a failed series stops no other."""
    read = partial(read_series_volume, settings=ensemble.volumes)
    for files, volume in zip(found, prefetch_map(read, found, workers, died), strict=True):
        yield _predict(files.uid, volume, ensemble)


def _predict(uid: str, volume: SeriesVolume, ensemble: Ensemble) -> Prediction:
    if volume.failure:
        return Prediction(uid, failure=volume.failure)
    try:
        return Prediction(uid, ensemble.predict(volume).probabilities, warnings=volume.warnings)
    except Exception as error:  # out of GPU memory, for example; the next series may still work
        return Prediction(uid, failure=f"{type(error).__name__}: {error}", warnings=volume.warnings)


def prediction_table(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """SeriesInstanceUID, the 14 probabilities (empty if there are none) and failure, the most suspicious first."""
    rows = [
        {"SeriesInstanceUID": cell(prediction.uid), "failure": cell(prediction.failure)}
        | ({} if prediction.failure else dict(zip(LABELS, prediction.probabilities, strict=True)))
        for prediction in predictions
    ]
    table = pd.DataFrame(rows, columns=["SeriesInstanceUID", *LABELS, "failure"])
    return table.sort_values(PRESENT, ascending=False, kind="stable", na_position="last")
