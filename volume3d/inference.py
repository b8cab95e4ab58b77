"""Predicts volumes with a trained model of the second system: 14 probabilities for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from aneurysm.config import from_saved
from aneurysm.labels import LABELS, MIRROR
from aneurysm.training.checkpoint import load_model
from aneurysm.training.data import one_thread
from aneurysm.training.distributed import DistContext
from aneurysm.training.precision import batch_on, inference_precision
from volume3d.config import Volume3dConfig, VolumeSettings
from volume3d.dataset import EvalVolumes, mirrored_place
from volume3d.model import Volume3dNet


@dataclass(frozen=True)
class Trained:
    """A model in eval mode, its configuration, and the settings of the volumes that it was trained on.

    volumes  None if the checkpoint does not contain them
    """

    model: Volume3dNet
    config: Volume3dConfig
    volumes: VolumeSettings | None


@dataclass(frozen=True)
class VolumePrediction:
    """The prediction for one volume or a batch.

    probabilities  (..., 14) in [0, 1]
    cells          (..., slices, rows, columns) probability of an aneurysm in each cell; None without net.dense
    """

    probabilities: np.ndarray
    cells: np.ndarray | None


def load_volume3d(path: Path, device: torch.device, unseen: int | str | None) -> Trained:
    """A trained model of volume3d.train or, if .safetensors, of volume3d.pretrain. Raises ValueError as load_model."""
    return load_model(path, "volume3d", partial(volume3d_from, device=device), unseen)


def volume3d_from(about: dict[str, Any], weights: dict[str, Tensor], device: torch.device) -> Trained:
    """The model from a checkpoint's `config` and `weights`, in eval mode; errors as from_saved and load_state_dict."""
    config, volumes = from_saved(Volume3dConfig, about["volume3d"]), about.get("volumes")
    model = Volume3dNet(config.net)
    model.load_state_dict(weights)
    return Trained(model.eval().to(device), config, from_saved(VolumeSettings, volumes) if volumes else None)


def predict_volumes(
    model: nn.Module, volumes: EvalVolumes, config: Volume3dConfig, world: DistContext, bar: str = ""
) -> np.ndarray:
    """(volumes, 14) probabilities in [0, 1]; several processes split the work, and each returns all of them.

    With `input.tta`, the mean of the predictions for a volume and its mirror image.
    """
    own = range(world.rank, len(volumes), world.size)
    batches = _batches(model, Subset(volumes, own), config, world, bar)
    rows = [np.column_stack(columns) for columns in batches]
    table = world.gather(np.concatenate(rows) if rows else np.empty((0, 1 + len(LABELS))))
    return table[np.argsort(table[:, 0]), 1:]


@torch.inference_mode()
def predict_batch(
    model: nn.Module, batch: dict[str, Tensor], config: Volume3dConfig, device: torch.device
) -> VolumePrediction:
    """The prediction for a batch of items of volume3d/dataset.py, on any device; with `input.tta`, the mean of the
    predictions for the volumes and for their mirror images."""
    precision, inputs = inference_precision(device), batch_on(device, batch, config.training.channels_last)
    with precision.autocast():
        probability, cells = _predict(model, inputs)
        if config.input.tta:
            mirrored, mirrored_cells = _predict(model, mirrored_batch(inputs))
            probability = (probability + mirrored[:, list(MIRROR)]) / 2
            cells = None if cells is None else (cells + mirrored_cells.flip(3)) / 2
    return VolumePrediction(probability.double().cpu().numpy(), None if cells is None else cells.cpu().numpy())


def _batches(
    model, volumes, config: Volume3dConfig, world: DistContext, bar: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    training = config.training
    size = 1 if config.net.dense else max(1, training.batch_size // (training.accumulate * world.size))
    loader = DataLoader(volumes, size, num_workers=training.workers, worker_init_fn=one_thread)
    for batch in tqdm(loader, desc=bar, leave=False, disable=not (bar and world.is_main)):
        yield batch["number"].numpy(), predict_batch(model, batch, config, world.device).probabilities


def _predict(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """(batch, 14) probabilities, and those of the cells (batch, slices, rows, columns) or None."""
    outputs = model(batch)
    cells = outputs["sac"].float().sigmoid() if "sac" in outputs else None
    return outputs["logits"].float().sigmoid(), cells


def mirrored_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with left and right swapped in its images and their positions."""
    mirrored = batch | {"image": batch["image"].flip(4)}
    if "place_mm" in batch:
        mirrored["place_mm"] = mirrored_place(batch["place_mm"], batch["spacing_mm"], batch["image"].shape[4])
    return mirrored
