"""Distributed training with torchrun, or a single process: rank, device, gradient synchronisation and gathering."""

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
    """Rank, number of processes and device of this process; only rank 0 writes files and prints."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, wrapped in DistributedDataParallel if there are several processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    def seed(self, seed: int) -> int:
        """A seed per process, so that dropout differs between processes; `seed` itself on rank 0."""
        return seed if self.is_main else int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0])

    def without_sync(self, model: nn.Module) -> AbstractContextManager:
        """Context that skips gradient synchronisation: for all micro-batches of a step except the last."""
        return nullcontext() if self.size == 1 else model.no_sync()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Rows of all processes concatenated in rank order, in every process."""
        if self.size == 1:
            return rows
        parts: list = [None] * self.size
        distributed.all_gather_object(parts, rows)
        return np.concatenate(parts)

    def highest(self, number: int) -> int:
        """The maximum of `number` over all processes; reduced on the CPU, without waiting for the GPU."""
        if self.size == 1:
            return number
        highest = torch.tensor(number)
        distributed.all_reduce(highest, distributed.ReduceOp.MAX)
        return int(highest)

    def wait(self) -> None:
        """Barrier: returns once all processes have called it."""
        if self.size > 1:
            distributed.barrier()


def init_distributed(device: str = "auto") -> DistContext:
    """Initialises torch.distributed from torchrun's environment variables; without them, a single process.

    `device` is auto (cuda if available), cpu or cuda; process i of a machine uses GPU i.
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
    """The store through which the processes exchange their addresses.

    torchrun's store survives a restart and still has the addresses of the ended processes, so each restart uses its own
    prefix. Several machines count restarts separately: there, torchrun needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
    """
    store, _, _ = next(distributed.rendezvous("env://"))
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"
    return distributed.PrefixStore(f"start_{start}", store)


def all_devices(device: str = "auto") -> list[torch.device]:
    """All GPUs, or the CPU, for a single process that uses them all; `device` is auto (GPUs if any), cpu or cuda.

    Raises ValueError for cuda without a GPU.
    """
    n_gpus = 0 if device == "cpu" else torch.cuda.device_count()
    if device == "cuda" and not n_gpus:
        raise ValueError("device cuda: expected a GPU, found none")
    return [torch.device("cuda", number) for number in range(n_gpus)] or [torch.device("cpu")]


def end_distributed() -> None:
    """Destroys the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
