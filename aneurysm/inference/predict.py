"""Loaded models that predict series from DICOM files; an unreadable series gets the training prevalences.

For example:

    predictor = Predictor.of_bundle(Path("bundle"), torch.device("cuda"))
    prediction = predictor.predict_series(Path("data/series/1.2.826..."))
    prediction.probabilities, prediction.peaks, prediction.warnings

Predictor.predict_series and Predictor.predict_all never raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from math import inf
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any

import numpy as np
import torch

from aneurysm.dicom.find import SeriesFiles
from aneurysm.inference.bundle import read_bundle, read_calibration, read_second
from aneurysm.inference.models import Model, Pair, only_one
from aneurysm.inference.peaks import Blend, curves, find_peaks
from aneurysm.inference.pictures import take_pictures
from aneurysm.inference.platt import Platt
from aneurysm.inference.prediction import MAXIMA, EncoderPrediction, Prediction
from aneurysm.inference.sac_map import sac_map
from aneurysm.inference.sampled import Request, SampledSeries, Unreadable, died, read_sampled
from aneurysm.inference.second_system import SecondSystem, VolumeEnsemble
from aneurysm.inference.slice_ensemble import SliceEnsemble
from aneurysm.inference.volume_evidence import VolumeEvidence
from aneurysm.parallel import prefetch_map
from aneurysm.stage2.predict import max_baseline
from aneurysm.training.config import PrecisionKind


class Predictor:
    """Averages the models of several folds and encoders.

    `prevalence` (14,) is the answer for unreadable series; `notes` are sentences on what had to be assumed about the
    models. Raises ValueError if the models cannot be combined or a file is invalid.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        devices: torch.device | Sequence[torch.device],
        tta: bool = True,
        batch_size: int = 32,
        threads: int = 1,
        n_pictures: int = 0,
        precision: PrecisionKind = "auto",
        maps: bool = False,
        second: SecondSystem | None = None,
        calibration: Platt | None = None,
    ):
        """`tta` also predicts the mirrored head, if stage 2 was configured for it; `batch_size` counts windows.

        Several `devices` share the windows of each series; `threads` is the number that decode its images.
        `precision` is that of stage 1, as in InferenceConfig. `maps` keeps the aneurysm map of each series.
        `second` runs on the first device; `calibration` is applied to the prediction of all models together.
        """
        self.devices = [devices] if isinstance(devices, torch.device) else list(devices)
        self.models = [Model(pair, self.devices, tta, precision, maps) for pair in pairs]
        self.notes = [note for model in self.models for note in model.notes]
        settings, slice_spacing_mm = only_one(self.models, "settings"), only_one(self.models, "slice_spacing_mm")
        self.ensemble, self.n_pictures = SliceEnsemble(self.models, self.devices, batch_size), n_pictures
        self.calibration = calibration
        self.second = VolumeEnsemble(second, self.devices[0]) if second else None
        volumes = self.second.settings if self.second else None
        self.request = Request(settings, slice_spacing_mm, self.ensemble.inputs, threads, n_pictures > 0, volumes)
        self._prevalences = self._by_encoder(
            {n: EncoderPrediction(*[m.prevalence] * 3) for n, m in enumerate(self.models)}
        )
        self.prevalence = _mean(self._prevalences)

    @classmethod
    def of_bundle(cls, folder: Path, devices: torch.device | Sequence[torch.device], **settings: Any) -> Predictor:
        """All models of a bundle; `settings` as in the constructor; raises as the constructor and read_bundle."""
        more = {"second": read_second(folder), "calibration": read_calibration(folder)}
        return cls(read_bundle(folder), devices, **more, **settings)

    def warm_up(self) -> None:
        """Does the one-time loading of the first call, and measures each model's speed for the time budgets."""
        self.ensemble.warm_up()

    def predict_series(
        self,
        place: Path | SeriesFiles,
        modality: str | None = None,
        budget_s: float = inf,
        given_up: Event | None = None,
    ) -> Prediction:
        """The prediction for the series in one folder. `modality` overrides that of the header.

        If `budget_s` seconds are too few, mirrored views are left out first, then models, then slices. Never raises:
        an unreadable series is answered with the training prevalences and a warning. So is a series whose caller has
        set `given_up` while it was read; no model runs on it.
        """
        deadline = perf_counter() + budget_s
        series = read_sampled(place, self.request)
        if given_up is not None and given_up.is_set():
            series = Unreadable("given up while it was read")
        return self._answer(place, series, modality, deadline)

    def predict_all(
        self,
        places: Sequence[Path | SeriesFiles],
        workers: int,
        modality: Mapping[Path, str] | None = None,
        budget_s: float = inf,
    ) -> Iterator[Prediction]:
        """The prediction for each, in order; `workers` processes decode ahead. The models have `budget_s` for each."""
        read = partial(read_sampled, request=self.request)
        for place, series in zip(places, prefetch_map(read, places, workers, died), strict=True):
            yield self._answer(place, series, (modality or {}).get(place), perf_counter() + budget_s)

    def _answer(
        self, place: Path | SeriesFiles, series: SampledSeries | Unreadable, modality: str | None, deadline: float
    ) -> Prediction:
        if isinstance(series, Unreadable):
            return self._prevalence(place, series.reason)
        try:
            return self._predict(_folder(place), series, modality, deadline)
        except Exception as error:  # out of GPU memory, say: answered with the prevalences
            return self._prevalence(place, f"{type(error).__name__}: {error}", tuple(series.warnings), series.uid)

    def _predict(self, folder: Path, series: SampledSeries, modality: str | None, deadline: float) -> Prediction:
        start = perf_counter()
        result = self.ensemble.predict(series, deadline)
        encoded = perf_counter()
        series, modality, plane = result.series, modality or series.type, series.geometry.plane
        predictions = {
            number: EncoderPrediction(
                self.models[number].classify(own, modality, plane), *(max_baseline(own, True, of) for of in MAXIMA)
            )
            for number, own in result.features.items()
        }
        by_encoder = self._by_encoder(predictions)
        probabilities = _mean(by_encoder)
        seconds = {"headers": series.headers_s, "decode": series.decode_s, "encode": encoded - start,
                   "sequence": perf_counter() - encoded}  # fmt: skip
        second, evidence, warnings, left_out = self._second(series, deadline)
        if second is not None:
            probabilities, seconds["volume"] = self.second.blended(probabilities, second), self.second.pace_s
        if self.calibration is not None:
            probabilities = self.calibration(probabilities)
        if not np.isfinite(probabilities).all():
            raise ValueError(f"expected probabilities, found {probabilities.tolist()}")
        features = list(result.features.values())
        along = curves(features, series)
        models = [self.models[number] for number in result.features]
        peaks = find_peaks(features, series, self._blend(evidence))
        return Prediction(
            folder=folder,
            probabilities=probabilities,
            by_encoder=by_encoder,
            uid=series.uid,
            series=series.without_images(),
            curves=along,
            peaks=peaks,
            pictures=take_pictures(models, series, self.ensemble.inputs, along, peaks, self.n_pictures),
            sac_map=sac_map(models, [list(result.rows[number].values()) for number in result.features], series),
            seconds=seconds,
            warnings=(*series.warnings, *warnings),
            left_out=result.left_out + left_out,
            second=second,
        )

    def _second(
        self, series: SampledSeries, deadline: float
    ) -> tuple[np.ndarray | None, VolumeEvidence | None, tuple[str, ...], tuple[str, ...]]:
        """volume3d's probabilities and its map, a warning if it failed, and a sentence if there was no time for it."""
        if self.second is None or series.volume is None:
            return None, None, (), ()
        if series.volume.failure:
            reason = f"volume3d could not read the series and has no part in the answer: {series.volume.failure}"
            return None, None, (reason,), ()
        if perf_counter() + self.second.pace_s > deadline:
            return None, None, (), ("volume3d was left out",)
        try:
            return *self.second.predict(series.volume), (), ()
        except Exception as error:  # out of GPU memory, say: the first system is enough
            return None, None, (f"volume3d failed and has no part in the answer: {type(error).__name__}: {error}",), ()

    def _blend(self, evidence: VolumeEvidence | None) -> Blend | None:
        """How volume3d's evidence changes probabilities at places of the series (see find_peaks)."""
        if evidence is None:
            return None
        return lambda probability, source: self.second.blended(probability, evidence.near(source))

    def _by_encoder(self, predictions: Mapping[int, EncoderPrediction]) -> dict[str, EncoderPrediction]:
        """The mean over each encoder's folds; `predictions` by model number."""
        found: dict[str, list[EncoderPrediction]] = {}
        for number, prediction in predictions.items():
            found.setdefault(self.models[number].name, []).append(prediction)
        return {
            name: EncoderPrediction(
                *(np.mean([getattr(a, part.name) for a in own], axis=0) for part in fields(EncoderPrediction))
            )
            for name, own in found.items()
        }

    def _prevalence(
        self, place: Path | SeriesFiles, reason: str, warnings: tuple[str, ...] = (), uid: str = ""
    ) -> Prediction:
        uid = uid or (place.uid if isinstance(place, SeriesFiles) else place.name)
        warnings += (f"the training prevalences stand for an answer: {reason}",)
        return Prediction(_folder(place), self.prevalence, self._prevalences, uid, warnings=warnings, failure=reason)


def _mean(by_encoder: Mapping[str, EncoderPrediction]) -> np.ndarray:
    return np.mean([prediction.stage2 for prediction in by_encoder.values()], axis=0)


def _folder(place: Path | SeriesFiles) -> Path:
    return place.folder if isinstance(place, SeriesFiles) else place
