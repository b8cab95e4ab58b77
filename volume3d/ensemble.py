"""Predicts a series that has just been read with the mean of the second system's models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from aneurysm.paths import ModelPaths
from volume3d.config import VolumeSettings
from volume3d.dataset import whole_inputs
from volume3d.inference import Trained, VolumePrediction, load_volume3d, predict_batch
from volume3d.series_volume import SeriesVolume
from volume3d.weights import weights_path


@dataclass(frozen=True)
class Ensemble:
    """Models trained on volumes that were made with the same `volumes` settings."""

    models: tuple[Trained, ...]
    volumes: VolumeSettings
    device: torch.device

    def predict(self, series: SeriesVolume) -> VolumePrediction:
        """The mean over the models, without cells where theirs differ in size; ValueError for non-finite ones."""
        predictions = [self._by_one(trained, series) for trained in self.models]
        probabilities = np.mean([one.probabilities for one in predictions], axis=0)
        if not np.isfinite(probabilities).all():
            raise ValueError(f"expected probabilities, found {probabilities.tolist()}")
        cells = [one.cells for one in predictions]
        alike = cells[0] is not None and len({np.shape(own) for own in cells}) == 1
        return VolumePrediction(probabilities, np.mean(cells, axis=0) if alike else None)

    def _by_one(self, trained: Trained, series: SeriesVolume) -> VolumePrediction:
        inputs = whole_inputs(series.voxels, series.spacing_mm, series.patient, trained.config)
        batch = {name: value[None] for name, value in inputs.items()}
        predicted = predict_batch(trained.model, batch, trained.config, self.device)
        return VolumePrediction(predicted.probabilities[0], None if predicted.cells is None else predicted.cells[0])


def load_ensemble(model_paths: ModelPaths, fold: str, device: torch.device, weights: str = "") -> Ensemble:
    """The models of one fold (0, 1, ...), of all trained folds (all), or of a split (split).

    If `weights` are given (as in weights_path), only these. Raises ValueError naming the file if it is missing, is not
    a model of this system, or does not say how its volumes were made; and naming two models that were trained on
    volumes made differently.
    """
    paths = [weights_path(weights)] if weights else _checkpoints(model_paths, fold)
    models = tuple(load_volume3d(path, device, _number(path)) for path in paths)
    for path, trained in zip(paths, models, strict=True):
        if trained.volumes is None:
            raise ValueError(f"{path}: expected the settings of volume3d.preprocess, found none; train it again")
        if trained.volumes != models[0].volumes:
            raise ValueError(
                f"{path}: expected a model of volumes as those of {paths[0]}, {models[0].volumes}, "
                f"found {trained.volumes}"
            )
    return Ensemble(models, models[0].volumes, device)


def _checkpoints(model_paths: ModelPaths, fold: str) -> Sequence[Path]:
    if fold == "all":
        found = sorted(model_paths.folder.glob("fold-*/last.pth"), key=lambda path: path.parent.name)
        found = [path for path in found if _number(path) is not None]
        if not found:
            raise ValueError(f"{model_paths.folder}: expected fold-<k>/last.pth, found none; has volume3d.train run?")
        return found
    if fold != "split" and not fold.isdecimal():
        raise ValueError(f"fold: expected all, a number or split, found {fold}")
    folder = model_paths.volume3d_split if fold == "split" else model_paths.fold(int(fold))
    return [folder / "last.pth"]


def _number(path: Path) -> int | None:
    """The fold of this checkpoint; None for a split's checkpoint and for pretrained weights."""
    number = path.parent.name.removeprefix("fold-")
    return int(number) if number.isdecimal() else None
