"""Trained pairs of stage 1 and stage 2: loaded from the folds of a model folder, and ready to predict."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.features import SeriesFeatures
from aneurysm.config import from_saved
from aneurysm.inference.sampled import SampledSeries
from aneurysm.paths import ModelPaths
from aneurysm.stage1.extract import PARTS, Encoder, Rows, series_features
from aneurysm.stage1.predict import stage1_from
from aneurysm.stage2.predict import predict_series, stage2_from
from aneurysm.stage2.temperature import at_temperature
from aneurysm.training.checkpoint import load_trained
from aneurysm.training.config import PrecisionKind


@dataclass(frozen=True)
class Trained:
    """One network from a checkpoint: its configuration, its weights by name, and the file, for error messages."""

    about: dict[str, Any]
    weights: dict[str, Tensor]
    source: Path


@dataclass(frozen=True)
class Pair:
    """Stage 1 and stage 2 of one encoder, trained without `fold`; None: trained on all series.

    temperature  divisor of stage 2's log-odds
    """

    encoder: str
    fold: int | None
    stage1: Trained
    stage2: Trained
    temperature: float = 1.0


def read_pair(model_paths: ModelPaths, fold: int | None) -> Pair:
    """The pair of one fold; ValueError naming a file that is missing, or whose model has seen the fold."""
    parts = []
    for part, path in (("stage1", model_paths.stage1(fold)), ("stage2", model_paths.stage2(fold) / "last.pth")):
        saved = load_trained(path, part, unseen=fold)
        parts.append(Trained(saved["config"], saved["weights"], path))
    return Pair(model_paths.encoder, fold, *parts)


class Model:
    """A pair that predicts series, sampled and mirrored as in its training.

    settings          of the cache that it was trained on
    slice_spacing_mm  distance of the slices that stage 2 was trained on
    views             that it predicts, in order
    encoders          stage 1 on each device, by view
    prevalence        (14,) share of positives among its training series: the answer for unreadable series
    notes             sentences on what had to be assumed
    """

    def __init__(self, pair: Pair, devices: Sequence[torch.device], tta: bool, precision: PrecisionKind = "auto",
                 maps: bool = False):  # fmt: skip
        """`tta` adds the mirrored view, if stage 2 was configured for it; several `devices` share the windows of each
        series; `maps` as for Encoder. Raises ValueError naming the file."""
        self.name, self.notes = pair.encoder, []
        stage1, self.config1 = _build(stage1_from, pair.stage1)
        stage2, config2 = _build(stage2_from, pair.stage2)
        self.settings, self.slice_spacing_mm, views = self._training(pair)
        tta = tta and config2.tokens.tta
        self.views = views if tta else views[:1]
        copies = [stage1.to(devices[0]), *(deepcopy(stage1).to(device) for device in devices[1:])]
        self.encoders = [
            {view: Encoder(copy, self.config1, device, [view], precision, maps) for view in self.views}
            for copy, device in zip(copies, devices, strict=True)
        ]
        self.stage2, self.config2 = stage2.to(devices[0]), replace(config2, tokens=replace(config2.tokens, tta=tta))
        self.prevalence = np.array(pair.stage2.about["prevalence"])
        self.temperature = pair.temperature

    def _training(self, pair: Pair) -> tuple[CacheSettings, float, tuple[str, ...]]:
        """The cache settings, slice_spacing_mm and the views, as saved in its checkpoints."""
        saved = pair.stage1.about.get("cache")
        if saved is None:
            self.notes.append(f"{pair.stage1.source} does not say how its cache was made: {CacheSettings()} is assumed")
        sampling = pair.stage2.about.get("sampling", {"slice_spacing_mm": None})
        if sampling["slice_spacing_mm"] is None:
            raise ValueError(
                f"{pair.stage2.source}: expected the distance of the slices that it was trained on, found none; "
                "delete the folder features/, then run extract_features.py and train_stage2.py again"
            )
        return from_saved(CacheSettings, saved or {}), sampling["slice_spacing_mm"], tuple(sampling["views"])

    def encode(self, view: str, images: Sequence[Tensor], rows: np.ndarray, plane: str, batch_size: int) -> Rows:
        """Stage 1's outputs for each window in one of `views`; `images` and `rows` as in Shown, with a copy of the
        images on each device. The devices share the windows."""
        shares = [share for share in np.array_split(rows, len(images)) if len(share)]
        by_device = zip(self.encoders, images, shares, strict=False)
        tasks = [partial(_encode, encoders[view], own, share, plane, batch_size) for encoders, own, share in by_device]
        if len(tasks) == 1:
            parts = [tasks[0]()]
        else:
            with ThreadPoolExecutor(len(tasks)) as pool:
                parts = list(pool.map(lambda task: task(), tasks))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def features(self, rows_of_views: dict[str, Rows], series: SampledSeries) -> SeriesFeatures:
        """The input of stage 2: stage 1's outputs for a series' windows in each view."""
        together = {name: np.concatenate([rows[name] for rows in rows_of_views.values()], axis=1) for name in PARTS}
        return series_features(together, series.index, series.position_mm, tuple(rows_of_views), self.slice_spacing_mm)

    def classify(self, features: SeriesFeatures, modality: str | None, plane: str) -> np.ndarray:
        """(14,) probabilities by stage 2, at its temperature."""
        predicted = predict_series(self.stage2, self.config2, features, modality, plane)
        return predicted if self.temperature == 1 else at_temperature(predicted, self.temperature)


def only_one(models: Sequence[Model], name: str) -> Any:
    """The value of attribute `name` that all models share; ValueError if they differ."""
    found = {getattr(model, name): model for model in models}
    if len(found) != 1:
        values = "; ".join(f"{model.name}: {value}" for value, model in found.items())
        raise ValueError(f"{name}: expected models trained alike, found {values or 'no models'}")
    return next(iter(found))


def _encode(encoder: Encoder, images: Tensor, rows: np.ndarray, plane: str, batch_size: int) -> Rows:
    batches = torch.from_numpy(rows).to(images.device).split(batch_size)
    parts = [encoder(images[batch], [plane] * len(batch)) for batch in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _build(build, trained: Trained) -> tuple:
    try:
        return build(trained.about, trained.weights)
    except (ValueError, RuntimeError, KeyError) as error:  # made by another version of this code, or of timm
        raise ValueError(f"{trained.source}: {error}") from error
