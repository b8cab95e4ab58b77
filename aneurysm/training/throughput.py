"""How fast an epoch goes: samples a second, how much of the time it waits for data, how much memory it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

Item = TypeVar("Item")
COLUMNS = ("samples_per_s", "wait_share", "peak_gb")  # of the history; none of them is the same in another run


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
