"""Trains and validates the second system on one fold or split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, average_precision_score
from torch import Tensor, nn
from torch.utils.data import Dataset

from aneurysm.metrics import history_scores
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit
from aneurysm.training.losses import label_loss, label_weights, location_loss, pos_weights, sac_loss, vessel_loss
from volume3d.activations import Activations
from volume3d.cases import Cases
from volume3d.config import LossConfig, Volume3dConfig
from volume3d.dataset import EvalVolumes, TrainingParts, TrainingVolumes
from volume3d.inference import predict_volumes
from volume3d.localizers import localizer_voxels
from volume3d.model import Volume3dNet
from volume3d.volume import read_settings
from volume3d.weights import load_weights, weights_path


@dataclass(frozen=True)
class HeldOut:
    """The series that a model is validated on; all their labels are known."""

    cases: Cases
    prevalence: np.ndarray  # (14,) of the training series: the prediction for a series without a volume

    @classmethod
    def of(cls, held_out: Cases, training: Cases) -> HeldOut:
        """The series of `held_out` whose labels are all known."""
        return cls(held_out.fully_labelled(), training.prevalence)

    @cached_property
    def has_volume(self) -> np.ndarray:
        """(series,) bool"""
        return self.cases.table.has_volume.to_numpy(bool)

    @property
    def truth(self) -> np.ndarray:
        """(series, 14) 0 or 1"""
        return self.cases.labels.astype(int)

    def predict(self, model: nn.Module, config: Volume3dConfig, world: DistContext, bar: str = "") -> np.ndarray:
        """(series, 14) probabilities; several processes split the work, and each returns all of them."""
        predictions = np.tile(self.prevalence, (len(self.cases), 1))
        if self.has_volume.any():
            volumes = EvalVolumes(self.cases.with_volume(), config)
            predictions[self.has_volume] = predict_volumes(model, volumes, config, world, bar)
        return predictions

    def scores(self, predictions: np.ndarray) -> dict[str, float]:
        """history_scores, and average precision and accuracy (at 0.5) of Aneurysm Present."""
        truth, present = self.truth[:, -1], predictions[:, -1]
        return history_scores(self.truth, predictions) | {
            "ap_present": float(average_precision_score(truth, present)) if truth.any() else np.nan,
            "accuracy_present": float(accuracy_score(truth, present > 0.5)),
        }


SAC_CELLS = 16.0  # cells of 1.6 mm that an aneurysm of 5 mm fills


class Volume3dLoss:
    """loss(model, batch): weighted cross-entropy of the known labels, and with net.dense the losses of the cells.

    The cells' targets are in the batch: sac and vessels, as in PhantomPart, or UNKNOWN vessels.
    """

    def __init__(self, config: LossConfig, prevalence: Tensor):
        """`prevalence` (14,) in (0, 1): the fraction of positives among the training series."""
        self.config, self.label_weight = config, label_weights(config.present_share)
        self.pos_weight = pos_weights(prevalence, config.pos_weight_cap)

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        outputs, config = model(batch), self.config
        total = label_loss(outputs["logits"], batch["labels"], self.pos_weight, self.label_weight).mean()
        total = config.logits_weight * total
        if "sac" in outputs:
            found = sac_loss(outputs["sac"], batch["sac"], config.dice_weight, SAC_CELLS)
            where = location_loss(outputs["vessels"][:, 1:], batch["sac"], SAC_CELLS)
            total = total + config.sac_weight * (found + config.location_weight * where)
            total = total + config.vessel_weight * vessel_loss(outputs["vessels"], batch["vessels"])
        return total


def train(
    training: Cases,
    held_out: Cases,
    config: Volume3dConfig,
    named: int | str,
    weights: str,
    folder: Path,
    world: DistContext,
    resume: bool,
    localizers_csv: Path,
) -> None:
    """Trains on all `training` series that have a volume; writes what `fit` writes into `folder`.

    The labels of `held_out` affect only the scores in the history and the choice of best.pth, unless
    `training.plateau_on` is score. `named` identifies the held-out series: the fold, or the checksum of the split.
    `weights` are as in weights_path, or empty. `localizers_csv` is read for net.dense only.
    """
    torch.manual_seed(config.training.seed)
    seen, unseen = training.with_volume(), HeldOut.of(held_out, training)
    prevalence = torch.from_numpy(seen.prevalence)
    model = Volume3dNet(config.net)
    text = load_weights(model, weights_path(weights)) if weights else "random weights"
    model.start_from(prevalence)
    if world.is_main:
        print(
            f"{named}: {text}; {len(seen)} volumes, {len(training) - len(seen)} series without one left out; "
            f"held out {len(unseen.cases)}, {int((~unseen.has_volume).sum())} of them without, "
            f"and {len(held_out) - len(unseen.cases)} whose labels are not all known left out"
        )
    about = {
        "volume3d": asdict(config),
        "held_out": named,
        "prevalence": training.prevalence.tolist(),
        "volumes": read_settings(seen.data_dir, seen.table.SeriesInstanceUID),
    }
    train_set = _train_set(seen, config, localizers_csv, world)
    watch = Activations(model.backbone, config.activations) if config.activations.every else None
    fit(
        model, train_set, Volume3dLoss(config.loss, prevalence),
        lambda trained: unseen.scores(unseen.predict(trained, config, world)) if len(unseen.cases) else {},
        config.training, folder, world, about, resume, observe=watch,
    )  # fmt: skip
    if world.is_main:
        print(folder / "last.pth")


def _train_set(seen: Cases, config: Volume3dConfig, localizers_csv: Path, world: DistContext) -> Dataset:
    if not config.net.dense:
        return TrainingVolumes(seen, config)
    points, errors = localizer_voxels(localizers_csv, seen.data_dir, set(seen.table.SeriesInstanceUID))
    if errors and world.is_main:
        print(f"{len(errors)} localizers have no place in a volume, the first: {errors[0]}")
    return TrainingParts(seen, config, points)
