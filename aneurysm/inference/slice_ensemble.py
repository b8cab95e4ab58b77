"""Runs the models within a time budget: leaves out mirrored views first, then models, then slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from aneurysm.cache.features import SeriesFeatures
from aneurysm.inference.models import Model
from aneurysm.inference.sampled import SampledSeries, Shown
from aneurysm.stage1.extract import Rows
from aneurysm.training.train_step import retry_smaller_batch

FEWEST_WINDOWS = 8  # a series is not thinned below this


@dataclass(frozen=True)
class EnsembleResult:
    """The models' outputs for a series.

    series    with the windows that were encoded: fewer if time was short
    features  by model number, of the models that ran
    rows      by model number and view, as from Encoder
    left_out  sentences on what there was no time for
    """

    series: SampledSeries
    features: dict[int, SeriesFeatures]
    rows: dict[int, dict[str, Rows]]
    left_out: tuple[str, ...]


class SliceEnsemble:
    """Runs several models on series, and measures the time that each takes for a window.

    If GPU memory runs out, the batch size is halved for this and all later series.
    """

    def __init__(self, models: Sequence[Model], devices: Sequence[torch.device], batch_size: int):
        self.models, self.devices, self.batch_size = models, devices, batch_size
        self.inputs = tuple(dict.fromkeys(model.config1.input for model in models))
        n_turns = max(len(model.views) for model in models)
        self.questions = [
            (number, model.views[turn])
            for turn in range(n_turns)
            for number, model in enumerate(models)
            if turn < len(model.views)
        ]
        self._window_s: dict[int, float] = {}  # by model number, once the model has run

    def warm_up(self) -> None:
        """Runs each model on a few random windows: does the one-time loading, and measures the speed."""
        n_windows = min(self.batch_size, 8) * len(self.devices)
        for number, model in enumerate(self.models):
            size = model.config1.input.image_size
            rows = np.zeros((n_windows, model.config1.input.n_slices), np.int64)
            images = [torch.rand(1, size, size, device=device) for device in self.devices]
            for _ in range(2):
                self._window_s.pop(number, None)  # only the second call is measured
                self._predict(number, model.views[0], images, rows, "axial")

    def predict(self, series: SampledSeries, deadline: float = inf) -> EnsembleResult:
        """The outputs that can be computed until `deadline` (perf_counter); all models run once before mirrored views.

        The first model always runs, on fewer windows if all of them would take too long.
        """
        step = self._step(len(series.index), deadline - perf_counter())
        sampled = series.thinned(step)
        images = [[_images_on(device, shown) for device in self.devices] for shown in sampled.shown]
        rows_of: dict[int, dict[str, Rows]] = {}
        skipped: list[tuple[int, str]] = []
        for number, view in self.questions:
            model = self.models[number]
            expected_s = self._window_s.get(number, 0.0) * len(sampled.index)
            unasked = view != model.views[0] and number not in rows_of
            if rows_of and (unasked or perf_counter() + expected_s > deadline):
                skipped.append((number, view))
                continue
            kind = self.inputs.index(model.config1.input)
            rows = self._predict(number, view, images[kind], sampled.shown[kind].rows, sampled.geometry.plane)
            rows_of.setdefault(number, {})[view] = rows
        features = {number: self.models[number].features(own, sampled) for number, own in sorted(rows_of.items())}
        thinned = (f"only {len(sampled.index)} of {len(series.index)} slices were evaluated",) if step > 1 else ()
        return EnsembleResult(sampled, features, rows_of, thinned + self._skipped_text(skipped))

    def _step(self, n_windows: int, seconds: float) -> int:
        """The step from one encoded window to the next with which the first model finishes in time."""
        step = 1
        while self._window_s.get(0, 0.0) * n_windows / step > seconds and n_windows // (2 * step) >= FEWEST_WINDOWS:
            step *= 2
        return step

    def _predict(self, number: int, view: str, images: Sequence[Tensor], rows: np.ndarray, plane: str) -> Rows:
        def encode(batch_size: int) -> tuple[Rows, float]:
            start = perf_counter()
            encoded = self.models[number].encode(view, images, rows, plane, batch_size)
            return encoded, perf_counter() - start

        (encoded, seconds), self.batch_size = retry_smaller_batch(encode, self.batch_size)
        latest = seconds / len(rows)
        self._window_s[number] = (latest + self._window_s.get(number, latest)) / 2
        return encoded

    def _skipped_text(self, skipped: Sequence[tuple[int, str]]) -> tuple[str, ...]:
        n_all = len(self.models)
        n_models = sum(view == self.models[number].views[0] for number, view in skipped)
        n_views = len(skipped) - n_models
        left_out = [f"only {n_all - n_models} of {n_all} models ran"] if n_models else []
        left_out += [f"{n_views} of {n_all} models did not run on the mirror image"] if n_views else []
        return tuple(left_out)


def _images_on(device: torch.device, shown: Shown) -> Tensor:
    """The images on a device; if its memory is too small for all, on the CPU: the encoder then moves each batch."""
    images = torch.from_numpy(shown.images)
    try:
        return images.to(device)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return images
