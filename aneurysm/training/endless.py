"""Samples that are made as training goes, several of each scan, and never twice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset


class EndlessSamples(Dataset, ABC):
    """`n_samples` new ones each epoch: item (epoch, sample) is number epoch * n_samples + sample of a seed.

    They are asked for in order, since those of a scan, and the scans of a person, are made together.
    """

    def __init__(self, seed: int, n_samples: int, per_scan: int):
        self.seed, self.n_samples, self.per_scan = seed, n_samples, per_scan
        self._scan = lru_cache(maxsize=2)(self.make_scan)

    @abstractmethod
    def make_scan(self, number: int) -> list[Any]:
        """The `per_scan` samples of one scan, decided by its number and the seed."""

    @abstractmethod
    def tensors(self, sample: Any) -> dict[str, Tensor]:
        """A sample as it is trained on."""

    def __len__(self) -> int:
        return self.n_samples

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_scan"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._scan = lru_cache(maxsize=2)(self.make_scan)

    def order(self, _: np.random.Generator) -> np.ndarray:
        """(n_samples,) from the first to the last."""
        return np.arange(self.n_samples)

    def name_of(self, key: tuple[int, int]) -> str:
        return f"phantom sample {key[0] * self.n_samples + key[1]} of seed {self.seed}"

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        scan, number = divmod(key[0] * self.n_samples + key[1], self.per_scan)
        return self.tensors(self._scan(scan)[number])


def whole_epochs(n_samples: int, every: int, batch_size: int) -> tuple[int, int]:
    """Epochs of as nearly as possible `every` samples, and how many samples each has: whole batches, `n_samples` or a
    few less together. Raises ValueError where there is not one batch."""
    n_epochs = -(-n_samples // every)
    per_epoch = n_samples // n_epochs // batch_size * batch_size
    if not per_epoch:
        raise ValueError(f"{n_samples} samples: expected at least {n_epochs} batches of {batch_size}")
    return n_epochs, per_epoch
