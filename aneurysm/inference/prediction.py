"""What is predicted for one series."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aneurysm.inference.peaks import Curves, Peak
from aneurysm.inference.pictures import Picture
from aneurysm.inference.sac_map import SacMap
from aneurysm.inference.sampled import SampledSeries

MAXIMA = ("logits", "heatmap_max")  # of stage 1 over the slices


@dataclass(frozen=True)
class EncoderPrediction:
    """(14,) probabilities of one encoder, the mean over its folds: by stage 2, and the maxima over the slices of the
    logits and the maps of stage 1 (NaN without maps)."""

    stage2: np.ndarray
    max_baseline: np.ndarray
    by_map: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What is said of one series.

    folder         where it lies, as it was named
    probabilities  (14,) in [0, 1] in the order of LABELS: the mean over encoders, and volume3d's share in it
    by_encoder     what each encoder says, by name
    uid            SeriesInstanceUID; the folder's name where nothing could be read
    series         its geometry, and the files of its images; None where it could not be read
    curves, peaks  along the series, and where; None and empty where there is nothing to see
    pictures       of the most suspicious slices, as many as the predictor was told
    sac_map        of all windows, where the predictor was told to keep it and its models have maps
    seconds        by step: headers, decode, encode, sequence
    left_out       sentences on what the time budget left out
    failure        why the training prevalences stand for an answer; empty where the models have answered
    second         (14,) probabilities by volume3d alone; None where it was not asked
    """

    folder: Path
    probabilities: np.ndarray
    by_encoder: dict[str, EncoderPrediction]
    uid: str = ""
    series: SampledSeries | None = None
    curves: Curves | None = None
    peaks: tuple[Peak, ...] = ()
    pictures: tuple[Picture, ...] = ()
    sac_map: SacMap | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    failure: str = ""
    second: np.ndarray | None = None
