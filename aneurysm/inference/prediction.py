"""The prediction for one series."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aneurysm.inference.peaks import Curves, Peak
from aneurysm.inference.pictures import Picture
from aneurysm.inference.sac_map import SacMap
from aneurysm.inference.sampled import SampledSeries

MAXIMA = ("logits", "heatmap_max")  # maxima of stage 1 over the slices


@dataclass(frozen=True)
class EncoderPrediction:
    """(14,) probabilities of one encoder, the mean over its folds: by stage 2, and by stage 1 the maximum over the
    slices of the logits and of the heatmaps (NaN without heatmaps)."""

    stage2: np.ndarray
    max_baseline: np.ndarray
    by_map: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """The prediction for one series.

    folder         path of the series, as it was given
    probabilities  (14,) in [0, 1] in the order of LABELS: all encoders and volume3d combined, and calibrated
    by_encoder     prediction of each encoder, by name
    uid            SeriesInstanceUID; the folder's name if the series is unreadable
    series         geometry, and the files of the images; None if unreadable
    curves, peaks  stage 1's probabilities along the series, and its peaks; None and empty if unreadable
    pictures       of the strongest findings, at most the predictor's n_pictures
    sac_map        of all windows; None unless the predictor keeps maps and its models have them
    seconds        by step: headers, decode, encode, sequence, and volume if volume3d ran
    left_out       sentences on what the time budget left out
    failure        why the answer is the training prevalences; empty if the models ran
    second         (14,) probabilities by volume3d alone; None if it did not run
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
