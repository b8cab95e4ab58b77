"""Maximum rates of a machine (matrix products, disk reads and writes), and the operations of a model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

ROUNDS = 5
CPU = torch.device("cpu")


@dataclass(frozen=True)
class DiskRates:
    """Bytes per second; `read` is of uncached files (if the system drops them), `read_again` is from memory."""

    write: float
    read: float
    read_again: float


def seconds_of(work: Callable[[], object], device: torch.device = CPU) -> float:
    """Seconds of one call, with the device idle before and after it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, the best of several rounds."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    torch.mm(a, b)
    return 2 * n**3 / min(seconds_of(lambda: torch.mm(a, b), device) for _ in range(4 * ROUNDS))


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of the convolutions and matrix products in a forward pass.

    For a backward pass torch counts too many: it treats a grouped convolution as an ungrouped one.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def disk_rates(folder: Path, megabytes: int = 256) -> DiskRates:
    """Rates of one file of random bytes, written and read in pieces of 1 MiB; the best of several rounds."""
    path, piece = folder / "disk_rates", np.random.default_rng(0).bytes(2**20)

    def write() -> None:
        with open(path, "wb", buffering=0) as file:
            for _ in range(megabytes):
                file.write(piece)
            os.fsync(file.fileno())

    def read() -> None:
        into = bytearray(2**20)
        with open(path, "rb", buffering=0) as file:
            while file.readinto(into):
                pass

    def forgotten() -> None:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    best = DiskRates(0.0, 0.0, 0.0)
    for _ in range(ROUNDS):
        written = seconds_of(write)
        forgotten()
        rates = (2**20 * megabytes / seconds for seconds in (written, seconds_of(read), seconds_of(read)))
        best = DiskRates(*(max(pair) for pair in zip(rates, (best.write, best.read, best.read_again), strict=True)))
    path.unlink()
    return best
