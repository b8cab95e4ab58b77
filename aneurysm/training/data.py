"""Sample order and data loading: reproducible from seed and epoch for any number of processes; measures throughput."""

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
COLUMNS = ("samples_per_s", "wait_share", "peak_gb")  # of history.csv; they differ between identical runs
Key = tuple[int, int]  # epoch and sample number
Order = Callable[[np.random.Generator], np.ndarray]  # sample indices (samples,) of an epoch


class EpochBatches(Sampler):
    """Batch sampler: yields this process's micro-batches of one epoch, as lists of (epoch, sample).

    An optimizer step has the same `batch_size` samples for any number of processes; each process gets an equal share,
    in `accumulate` micro-batches. The order is a random permutation, or `order(rng)`; an incomplete last batch is
    dropped. Set `epoch` and `first_step` (to resume within the epoch) before iterating. Raises ValueError if
    `batch_size` is not a multiple of processes x accumulate, or larger than `n_samples`.
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
        """Optimizer steps per epoch."""
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
    """A loader of micro-batches; dataset[epoch, sample] must depend on these two numbers only.

    `collate` makes a batch from a list of items; the default stacks their tensors.
    """
    keep = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    pin = batches.world.device.type == "cuda"
    return DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, collate_fn=collate, pin_memory=pin,
        worker_init_fn=_begin_worker, **keep,
    )  # fmt: skip


def steps(loader: DataLoader, batches: EpochBatches) -> Iterator[tuple[list[list[Key]], list[dict[str, Tensor]]]]:
    """Yields (sample keys, batches) of the micro-batches of each remaining optimizer step of the epoch.

    A DataLoader draws from torch's random generator each time that it is iterated. Only the draw at the start of a run
    counts; later ones are undone, so that a resumed run continues with the same random numbers.
    """
    begins = batches.epoch == batches.first_step == 0
    with torch.random.fork_rng(devices=[], enabled=not begins):
        parts = zip(batches, loader, strict=True)
    while step := list(islice(parts, batches.accumulate)):
        yield tuple(map(list, zip(*step, strict=True)))


def names_of(dataset: Dataset, keys: Sequence[Key]) -> str:
    """The distinct names of samples, comma-separated: `dataset.name_of(key)`, or `sample <i>` without that method."""
    name_of = getattr(dataset, "name_of", lambda key: f"sample {key[1]}")
    return ", ".join(dict.fromkeys(name_of(key) for key in keys))


def _begin_worker(number: int) -> None:
    """Initialises a worker process of the training loader."""
    one_thread(number)
    leave_signals_to_parent()


def one_thread(_: int) -> None:
    """Limits torch and OpenCV to one thread in this process, one of several workers."""
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
    """`n_samples` new synthetic samples per epoch: item (epoch, sample) is sample epoch * n_samples + sample of `seed`.

    Each scan gives `per_scan` samples, and the last scans are cached; samples are therefore loaded in sequence, not
    shuffled (`order`). Where `batch_size` samples would be of fewer than MIXED_SCANS scans, up to so many scans take
    turns.
    """

    def __init__(self, seed: int, n_samples: int, per_scan: int, batch_size: int):
        self.seed, self.n_samples, self.per_scan = seed, n_samples, per_scan
        self.n_mixed = min(MIXED_SCANS, -(-MIXED_SCANS * per_scan // batch_size))
        self._scan = self._cached()

    @abstractmethod
    def make_scan(self, number: int) -> list[Any]:
        """The `per_scan` samples of a scan; must depend on `number` and the seed only."""

    @abstractmethod
    def tensors(self, sample: Any) -> dict[str, Tensor]:
        """A sample as a dict of tensors for training."""

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
        """0 to n_samples - 1, in sequence."""
        return np.arange(self.n_samples)

    def name_of(self, key: tuple[int, int]) -> str:
        return f"phantom sample {key[0] * self.n_samples + key[1]} of seed {self.seed}"

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        scan, sample = mixed(key[0] * self.n_samples + key[1], self.per_scan, self.n_mixed)
        return self.tensors(self._scan(scan)[sample])


def whole_epochs(n_samples: int, every: int, batch_size: int) -> tuple[int, int]:
    """(epochs, samples per epoch): epochs of at most `every` samples, each a multiple of `batch_size`.

    In total at most `n_samples`, fewer by less than one batch and one sample per epoch. Raises ValueError if an epoch
    has less than one batch.
    """
    n_epochs = -(-n_samples // every)
    per_epoch = n_samples // n_epochs // batch_size * batch_size
    if not per_epoch:
        raise ValueError(f"{n_samples} samples: expected at least {n_epochs} batches of {batch_size}")
    return n_epochs, per_epoch


class Throughput:
    """Measures training speed from its creation on; resets the peak memory counter of the GPU."""

    def __init__(self, device: torch.device):
        self.device, self.started, self.waited_s = device, time.perf_counter(), 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items and adds the time spent waiting for them to `waited_s`."""
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
        """COLUMNS so far: samples per second, fraction of time spent waiting for data, and on a GPU the peak memory
        allocated by tensors (GB)."""
        seconds = time.perf_counter() - self.started
        found = {"samples_per_s": n_samples / seconds, "wait_share": self.waited_s / seconds}
        if self.device.type == "cuda":
            found["peak_gb"] = torch.cuda.max_memory_allocated(self.device) / 1e9
        return found
