"""Asks a trained model of the second system about volumes: 14 probabilities of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from aneurysm.config import from_saved
from aneurysm.labels import LABELS, MIRROR
from aneurysm.training.batches import one_thread
from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.distributed import World
from aneurysm.training.layout import batch_on
from aneurysm.training.precision import inference_precision
from volume3d.config import Volume3dConfig
from volume3d.dataset import PlainVolumes
from volume3d.model import Volume3dNet


def load_volume3d(path: Path, device: torch.device, held_out: int | str) -> tuple[Volume3dNet, Volume3dConfig]:
    """A trained model, ready to be asked, and its configuration.

    `held_out` is the fold that it must not have seen, or the checksum of the split whose `train` it was trained on.
    Raises ValueError naming the file where it is missing, holds another model, or one that has held out something else.
    """
    saved = load_checkpoint(path)
    about = saved.get("config", {})
    if "volume3d" not in about:
        raise ValueError(f"{path}: expected a checkpoint of volume3d.train, found {', '.join(about or saved)}")
    if about["held_out"] != held_out:
        raise ValueError(
            f"{path}: expected a model that has not seen fold or split {held_out}, found {about['held_out']}"
        )
    config = from_saved(Volume3dConfig, about["volume3d"])
    model = Volume3dNet(config.net)
    try:
        model.load_state_dict(saved["weights"])
    except RuntimeError as error:  # of another version of this code
        raise ValueError(f"{path}: {error}") from error
    return model.eval().to(device), config


def predict_volumes(
    model: nn.Module, volumes: PlainVolumes, config: Volume3dConfig, world: World, bar: str = ""
) -> np.ndarray:
    """(volumes, 14) probabilities in [0, 1] of all volumes; several processes share the work and all get them all.

    With `input.tta`, the mean of what is said of a volume and of its mirror image.
    """
    own = range(world.rank, len(volumes), world.size)
    batches = _batches(model, Subset(volumes, own), config, world, bar)
    rows = [np.column_stack(columns) for columns in batches]
    table = world.gather(np.concatenate(rows) if rows else np.empty((0, 1 + len(LABELS))))
    return table[np.argsort(table[:, 0]), 1:]


@torch.inference_mode()
def _batches(model, volumes, config: Volume3dConfig, world: World, bar: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    training = config.training
    precision = inference_precision(world.device, training.precision)
    size = max(1, training.batch_size // (training.accumulate * world.size))
    loader = DataLoader(volumes, size, num_workers=training.workers, worker_init_fn=one_thread)
    for batch in tqdm(loader, desc=bar, leave=False, disable=not (bar and world.is_main)):
        with precision.autocast():
            probability = _probability(model, batch_on(world.device, batch, training.channels_last), config.input.tta)
        yield batch["number"].numpy(), probability.double().cpu().numpy()


def _probability(model: nn.Module, batch: dict[str, Tensor], tta: bool) -> Tensor:
    """(batch, 14)"""
    probability = model(batch).float().sigmoid()
    if not tta:
        return probability
    mirrored = model(batch | {"image": batch["image"].flip(4)}).float().sigmoid()
    return (probability + mirrored[:, list(MIRROR)]) / 2
