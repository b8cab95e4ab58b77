"""Which samples are seen when, decided by seed and epoch alone, whatever processes and workers; how fast they come."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from aneurysm.training.distributed import DistContext
from aneurysm.training.interrupt import leave_signals_to_parent

Item = TypeVar("Item")
COLUMNS = ("samples_per_s", "wait_share", "peak_gb")  # of the history; none of them is the same in another run
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


MIXED_SCANS = 4  # in a batch, at least: samples of one head alone would double the variance of a step's gradient


def mixed(number: int, per_scan: int, n_scans: int) -> tuple[int, int]:
    """The scan of sample `number` of an endless sequence, and the sample's number in it.

    `n_scans` scans take turns; they begin and end at different times, one every `per_scan` samples.
    """
    turn, slot = divmod(number, n_scans)
    ahead = (n_scans - 1 - slot) * per_scan // n_scans  # the first scan of slot 0 ends first
    group, sample = divmod(turn + ahead, per_scan)
    return group * n_scans + slot, sample


class EndlessSamples(Dataset, ABC):
    """`n_samples` new ones each epoch: item (epoch, sample) is number epoch * n_samples + sample of a seed.

    They are asked for in order, since those of a scan, and the scans of a person, are made together. Where
    `batch_size` samples would be of fewer than MIXED_SCANS scans, up to so many scans take turns.
    """

    def __init__(self, seed: int, n_samples: int, per_scan: int, batch_size: int):
        self.seed, self.n_samples, self.per_scan = seed, n_samples, per_scan
        self.n_mixed = min(MIXED_SCANS, -(-MIXED_SCANS * per_scan // batch_size))
        self._scan = self._cached()

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
        self._scan = self._cached()

    def _cached(self) -> Callable[[int], list[Any]]:
        return lru_cache(maxsize=max(2, self.n_mixed))(self.make_scan)

    def order(self, _: np.random.Generator) -> np.ndarray:
        """(n_samples,) from the first to the last."""
        return np.arange(self.n_samples)

    def name_of(self, key: tuple[int, int]) -> str:
        return f"phantom sample {key[0] * self.n_samples + key[1]} of seed {self.seed}"

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        scan, sample = mixed(key[0] * self.n_samples + key[1], self.per_scan, self.n_mixed)
        return self.tensors(self._scan(scan)[sample])


def whole_epochs(n_samples: int, every: int, batch_size: int) -> tuple[int, int]:
    """Epochs of as nearly as possible `every` samples, and how many samples each has: whole batches, `n_samples` or a
    few less together. Raises ValueError where there is not one batch."""
    n_epochs = -(-n_samples // every)
    per_epoch = n_samples // n_epochs // batch_size * batch_size
    if not per_epoch:
        raise ValueError(f"{n_samples} samples: expected at least {n_epochs} batches of {batch_size}")
    return n_epochs, per_epoch


class Throughput:
    """Of one epoch, from here on."""

    def __init__(self, device: torch.device):
        self.device, self.started, self.waited_s = device, time.perf_counter(), 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, and the time that they take to come is waited for."""
        items = iter(items)
        while True:
            asked = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.waited_s += time.perf_counter() - asked
            yield item

    def row(self, n_samples: int) -> dict[str, float]:
        """COLUMNS up to now: samples a second, share of the time in which this process had no data to work on, and, on
        a GPU, the most memory in GB that tensors took on it at once."""
        seconds = time.perf_counter() - self.started
        found = {"samples_per_s": n_samples / seconds, "wait_share": self.waited_s / seconds}
        if self.device.type == "cuda":
            found["peak_gb"] = torch.cuda.max_memory_allocated(self.device) / 1e9
        return found
