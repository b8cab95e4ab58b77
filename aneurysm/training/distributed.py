"""One process or several (torchrun): who this process is, and what all of them gather."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class DistContext:
    """This process among all: rank 0 writes files and prints."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with gradients averaged over all processes where there are several."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    def seed(self, seed: int) -> int:
        """This process's own seed, so that each draws its own dropout: `seed` itself for the main process."""
        return seed if self.is_main else int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0])

    def without_sync(self, model: nn.Module) -> AbstractContextManager:
        """While it lasts, gradients of the wrapped model stay in this process: for all parts of a step but the last."""
        return nullcontext() if self.size == 1 else model.no_sync()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """(rows of all processes, ...) in the order of the ranks; every process gets all of them."""
        if self.size == 1:
            return rows
        parts: list = [None] * self.size
        distributed.all_gather_object(parts, rows)
        return np.concatenate(parts)

    def highest(self, number: int) -> int:
        """The highest of what the processes say, in the main memory: no GPU waits for it."""
        if self.size == 1:
            return number
        highest = torch.tensor(number)
        distributed.all_reduce(highest, distributed.ReduceOp.MAX)
        return int(highest)

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.size > 1:
            distributed.barrier()


def init_distributed(device: str = "auto") -> DistContext:
    """The world that torchrun describes in the environment, or one process alone.

    `device` is auto, cpu or cuda; with several GPUs each process takes its own.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    size, rank, local = (int(os.environ.get(name, default)) for name, default in
                         (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0)))  # fmt: skip
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if size > 1 and not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        distributed.init_process_group(backend, store=_meeting_place(), rank=rank, world_size=size)
    return DistContext(rank, size, place)


def _meeting_place() -> distributed.Store:
    """Where the processes tell each other how to be reached.

    What torchrun offers outlives a restart, with the addresses of the processes before it, so each start has a part of
    its own. Several machines count their starts apart: there, torchrun needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
    """
    store, _, _ = next(distributed.rendezvous("env://"))
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"
    return distributed.PrefixStore(f"start_{start}", store)


def all_devices(device: str = "auto") -> list[torch.device]:
    """Every GPU, or the CPU, for one process that uses all of them: cpu, cuda, or auto, which takes what there is.

    Raises ValueError where a GPU is asked for and there is none.
    """
    n_gpus = 0 if device == "cpu" else torch.cuda.device_count()
    if device == "cuda" and not n_gpus:
        raise ValueError("device cuda: expected a GPU, found none")
    return [torch.device("cuda", number) for number in range(n_gpus)] or [torch.device("cpu")]


def end_distributed() -> None:
    """Ends the talk between processes; does nothing where there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
