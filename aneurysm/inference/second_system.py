"""The second system: volume3d on whole volumes, its log-odds averaged with those of stage 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from aneurysm.inference.models import Trained
from aneurysm.inference.volume_evidence import VolumeEvidence
from aneurysm.paths import VOLUME3D, ModelPaths
from aneurysm.stage2.temperature import log_odds
from aneurysm.training.checkpoint import load_trained

if TYPE_CHECKING:  # volume3d needs scipy; bundles without volume3d do not
    from volume3d.config import VolumeSettings
    from volume3d.series_volume import SeriesVolume


@dataclass(frozen=True)
class SecondSystem:
    """Trained volume3d models, to be averaged, and the weight of their log-odds beside stage 2, 0 to 1."""

    trained: tuple[Trained, ...]
    weight: float


class VolumeEnsemble:
    """The models on a device, ready to predict; ValueError naming the file of an unusable one.

    settings  of the volumes that the models need
    pace_s    seconds that the latest series took; 0 before the first
    """

    def __init__(self, second: SecondSystem, device: torch.device):
        from volume3d.ensemble import Ensemble
        from volume3d.inference import volume3d_from

        if not 0 <= second.weight <= 1:
            raise ValueError(f"weight of volume3d: expected 0 to 1, found {second.weight}")
        models = []
        for trained in second.trained:
            try:
                models.append(volume3d_from(trained.about, trained.weights, device))
            except (ValueError, RuntimeError, KeyError) as error:  # made by another version of this code
                raise ValueError(f"{trained.source}: {error}") from error
            if models[-1].volumes is None or models[-1].volumes != models[0].volumes:
                raise ValueError(f"{trained.source}: expected volumes made as for the other models, or made at all")
            if models[-1].config.net.patient:
                raise ValueError(f"{trained.source}: expected a model of images alone (net.patient false)")
        self.ensemble, self.weight, self.pace_s = Ensemble(tuple(models), models[0].volumes, device), second.weight, 0.0

    @property
    def settings(self) -> VolumeSettings:
        return self.ensemble.volumes

    def predict(self, volume: SeriesVolume) -> tuple[np.ndarray, VolumeEvidence | None]:
        """(14,) probabilities by volume3d alone, and its map of the series, None without dense heads of one cell size;
        the means over its models and, with input.tta, over mirroring."""
        start = perf_counter()
        predicted = self.ensemble.predict(volume)
        self.pace_s = perf_counter() - start
        if predicted.cells is None:
            return predicted.probabilities, None
        stride = self.ensemble.models[0].config.net.stride
        return predicted.probabilities, VolumeEvidence(predicted.cells, volume.grid, stride)

    def blended(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Probabilities of both systems together, of any shape: their log-odds are averaged with `weight`."""
        odds = (1 - self.weight) * log_odds(first) + self.weight * log_odds(second)
        return 1 / (1 + np.exp(-odds))


def second_system(model_dir: Path, folds: Sequence[int | None], given: str, weight: float) -> SecondSystem:
    """The models to pack: of `folds` if `given` is "folds", else the weights `given` (see volume3d.weights).

    Raises ValueError naming a file that is missing or unusable.
    """
    from volume3d.weights import weights_path

    paths = [ModelPaths(model_dir, VOLUME3D).fold(fold) / "last.pth" for fold in folds]
    if given != "folds":
        paths = [weights_path(given)]
    saved = [(load_trained(path, "volume3d"), path) for path in paths]
    trained = tuple(Trained(content["config"], content["weights"], path) for content, path in saved)
    second = SecondSystem(trained, weight)
    VolumeEnsemble(second, torch.device("cpu"))  # raises if they are unusable
    return second
