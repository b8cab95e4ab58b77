"""Which samples are seen when: decided by seed and epoch alone, whatever the number of processes and workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from aneurysm.training.distributed import DistContext
from aneurysm.training.interrupt import leave_signals_to_parent

Key = tuple[int, int]  # epoch and sample number
Order = Callable[[np.random.Generator], np.ndarray]  # (samples,) the numbers of an epoch's samples


class EpochBatches(Sampler):
    """The batches of this process for one epoch, as lists of (epoch, sample).

    A step's `batch_size` samples are the same for any number of processes; each gets its share, in `accumulate`
    parts. They come at random, or as `order` has it. What does not fill a step is left for another epoch. `epoch` is
    the one that comes next, and `first_step` its first step that has not been taken.
    """

    def __init__(
        self,
        n_samples: int,
        batch_size: int,
        accumulate: int,
        world: DistContext,
        seed: int,
        order: Order | None = None,
    ):
        self.part, rest = divmod(batch_size, accumulate * world.size)
        if rest or self.part == 0:
            raise ValueError(f"batch_size {batch_size}: expected a multiple of {world.size} processes x {accumulate}")
        if n_samples < batch_size:
            raise ValueError(
                f"expected at least one batch of {batch_size} samples, found {n_samples}; lower --training.batch_size"
            )
        self.n_samples, self.batch_size, self.accumulate = n_samples, batch_size, accumulate
        self.world, self.seed, self.order, self.epoch, self.first_step = world, seed, order, 0, 0

    @property
    def n_steps(self) -> int:
        """Optimizer steps of an epoch."""
        return self.n_samples // self.batch_size

    def __len__(self) -> int:
        return (self.n_steps - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.n_samples) if self.order is None else self.order(rng)
        for step in range(self.first_step, self.n_steps):
            for turn in range(self.accumulate):
                first = step * self.batch_size + (turn * self.world.size + self.world.rank) * self.part
                yield [(self.epoch, int(i)) for i in order[first : first + self.part]]


def training_loader(
    dataset: Dataset, batches: EpochBatches, workers: int, collate: Callable | None = None
) -> DataLoader:
    """Batches of `dataset`, whose items are asked for by (epoch, sample) and must depend on these two alone.

    `collate` makes a batch of a list of items; by default their tensors are stacked.
    """
    keep = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    pin = batches.world.device.type == "cuda"
    return DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, collate_fn=collate, pin_memory=pin,
        worker_init_fn=_begin_worker, **keep,
    )  # fmt: skip


def steps(loader: DataLoader, batches: EpochBatches) -> Iterator[tuple[list[list[Key]], list[dict[str, Tensor]]]]:
    """The parts of each optimizer step that is left of the epoch, as the keys of their samples and as batches.

    A loader draws a random number of torch when it starts its processes. It counts once, where the run begins: so a
    resumed run, and one with another number of workers, goes on with the same numbers.
    """
    begins = batches.epoch == batches.first_step == 0
    with torch.random.fork_rng(devices=[], enabled=not begins):
        parts = zip(batches, loader, strict=True)
    while step := list(islice(parts, batches.accumulate)):
        yield tuple(map(list, zip(*step, strict=True)))


def names_of(dataset: Dataset, keys: Sequence[Key]) -> str:
    """The series of samples, each once, as `dataset.name_of(key)` tells them; numbers where it does not."""
    name_of = getattr(dataset, "name_of", lambda key: f"sample {key[1]}")
    return ", ".join(dict.fromkeys(name_of(key) for key in keys))


def _begin_worker(number: int) -> None:
    """In each process that prepares batches."""
    one_thread(number)
    leave_signals_to_parent()


def one_thread(_: int) -> None:
    """A worker process is one of many: it takes one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
