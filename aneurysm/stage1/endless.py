"""Endless phantom windows for training, with masks of the aneurysm sac instead of discs around localizers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aneurysm.folds.targets import labels_of, shown_locations
from aneurysm.labels import LABELS, PRESENT
from aneurysm.phantom.config import FIRST_SEED, PhantomWindowsConfig
from aneurysm.phantom.windows import PhantomWindow, scan_windows
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.dataset import TrainingWindows
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.predict import load_stage1
from aneurysm.training.data import EndlessSamples
from aneurysm.training.precision import channels_last_model

MIXED_SEED = 2 * FIRST_SEED  # differs from the seeds of pretraining


class EndlessWindows(EndlessSamples):
    """`n_windows` new phantom windows per epoch: item (epoch, sample) is window epoch * n_windows + sample of a seed.

    `mining_weights` is the file of the network that selects hard negatives (`phantoms.mined_of`).
    """

    def __init__(
        self, config: Stage1Config, phantoms: PhantomWindowsConfig, seed: int, n_windows: int,
        mining_weights: Path | None = None,
    ):  # fmt: skip
        """Raises ValueError if phantoms.part is not a multiple of heatmap_stride or exceeds image_size, if only one of
        mined_of and mining_weights is given, or if that file is unreadable or of a network with another input.
        """
        stride, image_size = config.heads.heatmap_stride, config.input.image_size
        if phantoms.part % stride or phantoms.part > image_size:
            fits = f"a multiple of heatmap_stride, {stride}, and at most image_size, {image_size}"
            raise ValueError(f"part {phantoms.part}: expected {fits}")
        if (phantoms.mined_of > 1) != (mining_weights is not None):
            found = f"mined_of {phantoms.mined_of}, mining_weights {mining_weights}"
            raise ValueError(
                f"phantoms.mined_of above 1 and pretraining.mining_weights: expected both or none, found {found}"
            )
        if mining_weights is not None and (found := load_stage1(mining_weights)[1]).input != config.input:
            raise ValueError(
                f"{mining_weights}: expected a network of the same input, {config.input}, found {found.input}"
            )
        super().__init__(seed, n_windows, phantoms.windows_per_scan, config.training.batch_size)
        self.config, self.phantoms, self.mining_weights = config, phantoms, mining_weights

    def make_scan(self, number: int) -> list[PhantomWindow]:
        hardness = partial(false_peak, self.mining_weights) if self.mining_weights else None
        inputs, stride = self.config.input, self.config.heads.heatmap_stride
        return scan_windows(self.seed, number, self.phantoms, inputs, stride, hardness=hardness)

    def tensors(self, sample: PhantomWindow) -> dict[str, Tensor]:
        tensors = {
            "image": torch.from_numpy(sample.image).permute(2, 0, 1),
            "labels": torch.from_numpy(labels_of(shown_locations(sample.sac))),
        }
        if self.config.heads.heatmap_weight:
            tensors["corner"] = torch.tensor(sample.corner, dtype=torch.float32)
            tensors["sac"] = torch.from_numpy(sample.sac)
        if self.config.heads.vessel_weight:
            tensors["vessels"] = torch.from_numpy(sample.vessels)
        return tensors


@torch.inference_mode()
def false_peak(weights: Path, window: PhantomWindow) -> float:
    """Maximum in [0, 1] of the Aneurysm Present heatmap outside of sacs, by the network in the file `weights`."""
    image = torch.from_numpy(window.image).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    heatmap = _network(weights)(image)["heatmap"][0, LABELS.index(PRESENT)].sigmoid()
    return float(heatmap[torch.from_numpy(window.sac == 0)].max())


@cache
def _network(weights: Path) -> Stage1Net:
    """The network of a file, loaded once per process."""
    return channels_last_model(load_stage1(weights)[0])


class MixedWindows(Dataset):
    """Windows of real series mixed with endless phantom windows, which are the fraction `share` of an epoch.

    `windows` are those of real series; phantom windows have the same size.
    """

    def __init__(self, windows: TrainingWindows, config: Stage1Config, share: float):
        """Raises ValueError if `share` is not between 0 and 1, and as EndlessWindows."""
        if not 0 < share < 1:
            raise ValueError(f"phantom_share {share}: expected a number above 0 and below 1")
        n_phantoms = max(1, round(len(windows) * share / (1 - share)))
        part = config.sampling.cut_size
        phantoms = replace(PhantomWindowsConfig(), part=part, windows_per_slab=4 if part else 1)
        self.windows = windows
        self.phantoms = EndlessWindows(config, phantoms, MIXED_SEED + config.training.seed, n_phantoms)

    def __len__(self) -> int:
        return len(self.windows) + len(self.phantoms)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """(samples,) random order, in which the phantom windows keep their sequence."""
        shuffled = rng.permutation(len(self))
        shuffled[shuffled >= len(self.windows)] = len(self.windows) + np.arange(len(self.phantoms))
        return shuffled

    def name_of(self, key: tuple[int, int]) -> str:
        return self._of(key)[0].name_of(self._of(key)[1])

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        dataset, own = self._of(key)
        return dataset[own]

    def _of(self, key: tuple[int, int]) -> tuple[TrainingWindows | EndlessWindows, tuple[int, int]]:
        n_own = len(self.windows)
        return (self.windows, key) if key[1] < n_own else (self.phantoms, (key[0], key[1] - n_own))
