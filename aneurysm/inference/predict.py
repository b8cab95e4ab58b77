"""Loaded models that answer for every series, whatever is in its folder.

For example:

    predictor = Predictor(read_bundle(Path("bundle")), torch.device("cuda"))
    prediction = predictor.predict_series(Path("data/series/1.2.826..."))
    prediction.probabilities, prediction.peaks, prediction.warnings

Predictor.predict_series and Predictor.predict_all never raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from aneurysm.data.ahead import run_ahead
from aneurysm.data.features import SeriesFeatures
from aneurysm.inference.models import Model, Pair, only_one
from aneurysm.inference.peaks import Curves, Peak, curves, find_peaks
from aneurysm.inference.sampled import Request, SampledSeries, Unreadable, died, read_sampled
from aneurysm.stage2.predict import plain_maximum


@dataclass(frozen=True)
class Answer:
    """(14,) probabilities of one encoder, the mean over its folds: by stage 2, and the plain maximum of stage 1."""

    stage2: np.ndarray
    plain: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What is said of one series.

    probabilities  (14,) in [0, 1] in the order of LABELS: the mean over encoders
    by_encoder     what each encoder says, by name
    curves, peaks  along the series, and where; None and empty where there is nothing to see
    seconds        by step: headers, decode, encode, sequence
    failure        why the training prevalences stand for an answer; empty where the models have answered
    """

    folder: Path
    probabilities: np.ndarray
    by_encoder: dict[str, Answer]
    curves: Curves | None = None
    peaks: tuple[Peak, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    failure: str = ""


class Predictor:
    """Models of several folds and encoders that are asked about series, and averaged.

    `notes` are sentences on what had to be assumed about them. Raises ValueError where models cannot be asked
    together, or a file is not what it should be.
    """

    def __init__(self, pairs: Sequence[Pair], device: torch.device, tta: bool = True, batch_size: int = 32):
        """`tta` also asks about the mirrored head, where stage 2 was configured to; `batch_size` windows at a time."""
        self.device, self.batch_size = device, batch_size
        self.models = [Model(pair, device, tta) for pair in pairs]
        self.notes = [note for model in self.models for note in model.notes]
        inputs = tuple(dict.fromkeys(model.config1.input for model in self.models))
        self.request = Request(only_one(self.models, "settings"), only_one(self.models, "every_mm"), inputs)

    def predict_series(self, folder: Path, modality: str | None = None) -> Prediction:
        """The answer about the series in one folder. `modality` where it is known from elsewhere; else by the header.

        Never raises: a series that cannot be read is answered with the training prevalences and a warning.
        """
        return self._answer(folder, read_sampled(folder, self.request), modality)

    def predict_all(
        self, folders: Sequence[Path], workers: int, modality: Mapping[Path, str] | None = None
    ) -> Iterator[Prediction]:
        """The answer about each folder, in order; `workers` processes decode ahead of the encoder."""
        read = partial(read_sampled, request=self.request)
        for folder, series in zip(folders, run_ahead(read, folders, workers, died), strict=True):
            yield self._answer(folder, series, (modality or {}).get(folder))

    def _answer(self, folder: Path, series: SampledSeries | Unreadable, modality: str | None) -> Prediction:
        if isinstance(series, Unreadable):
            return self._prevalence(folder, series.reason)
        try:
            return self._ask(folder, series, modality)
        except Exception as error:  # the GPU's memory, say: this series has an answer, the next is tried again
            return self._prevalence(folder, f"{type(error).__name__}: {error}", tuple(series.warnings))

    def _ask(self, folder: Path, series: SampledSeries, modality: str | None) -> Prediction:
        """All models; here a time budget will one day leave some of them out."""
        start = perf_counter()
        features = self._look(series)
        encoded = perf_counter()
        modality, plane = modality or series.type, series.geometry.plane
        answers = [
            Answer(model.conclude(own, modality, plane), plain_maximum(own, tta=True))
            for model, own in zip(self.models, features, strict=True)
        ]
        by_encoder = self._by_encoder(answers)
        probabilities = np.mean([answer.stage2 for answer in by_encoder.values()], axis=0)
        if not np.isfinite(probabilities).all():
            raise ValueError(f"expected probabilities, found {probabilities.tolist()}")
        seconds = {"headers": series.headers_s, "decode": series.decode_s, "encode": encoded - start,
                   "sequence": perf_counter() - encoded}  # fmt: skip
        return Prediction(
            folder, probabilities, by_encoder, curves(features, series), find_peaks(features, series), seconds,
            tuple(series.warnings),
        )  # fmt: skip

    def _look(self, series: SampledSeries) -> list[SeriesFeatures]:
        """What each model's stage 1 says; the slices of each input go to the device once."""
        features = {}
        for config, shown in zip(self.request.inputs, series.shown, strict=True):
            images = torch.from_numpy(shown.images).to(self.device)
            for number, model in enumerate(self.models):
                if model.config1.input == config:
                    features[number] = model.look(images, series, shown.rows, self.batch_size)
        return [features[number] for number in range(len(self.models))]

    def _by_encoder(self, answers: Sequence[Answer]) -> dict[str, Answer]:
        found: dict[str, list[Answer]] = {}
        for model, answer in zip(self.models, answers, strict=True):
            found.setdefault(model.name, []).append(answer)
        return {
            name: Answer(np.mean([a.stage2 for a in own], axis=0), np.mean([a.plain for a in own], axis=0))
            for name, own in found.items()
        }

    def _prevalence(self, folder: Path, reason: str, warnings: tuple[str, ...] = ()) -> Prediction:
        by_encoder = self._by_encoder([Answer(model.prevalence, model.prevalence) for model in self.models])
        probabilities = np.mean([answer.stage2 for answer in by_encoder.values()], axis=0)
        warnings += (f"the training prevalences stand for an answer: {reason}",)
        return Prediction(folder, probabilities, by_encoder, warnings=warnings, failure=reason)
