"""Memory and speed of the second system by checkpointing and precision, and the cost of recording activations.

    python -m benchmarks.volume3d                                                  on a GPU
    python -m benchmarks.volume3d --shape 64,128,128 --precisions fp32 --steps 1   on two CPU cores

Each row is a process of its own, which trains on random volumes. Peak memory is torch.cuda.max_memory_allocated on a
GPU. On a CPU it is the growth of the largest resident set during the steps, without libraries and weights. The goals:
checkpointing halves the peak of a batch of 128 x 256 x 256, and recording activations costs less than 3 %.
"""

from __future__ import annotations

import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from aneurysm.config import run_script
from aneurysm.training.distributed import init_distributed
from aneurysm.training.precision import batch_on, channels_last_model, training_precision
from benchmarks.rates import seconds_of
from volume3d.activations import statistics
from volume3d.config import ActivationsConfig, LossConfig, NetConfig
from volume3d.model import Volume3dNet
from volume3d.patient import PATIENT_KEYS
from volume3d.training import Volume3dLoss

GB = 1e9


@dataclass(frozen=True)
class BenchmarkConfig:
    shape: tuple[int, ...] = (128, 256, 256)
    """slices, rows and columns of a volume"""
    batch_size: int = 1
    """volumes of a step"""
    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16")
    """those to measure"""
    checkpointing: tuple[bool, ...] = (False, True)
    """without, with, or both"""
    norm: str = "batch"
    """batch or group"""
    width: int = 64
    """channels of the first layers"""
    steps: int = 3
    """steps that are timed, after one that is not where there are several"""
    activations_every: int = 100
    """optimizer steps from one record of activations to the next"""
    device: str = "auto"
    """cpu, cuda, or auto"""


@dataclass(frozen=True)
class Measured:
    """For one setting: peak memory in bytes, volumes per second, fraction of the time to record activations."""

    peak: int
    volumes_per_s: float
    activations: float


def main(config: BenchmarkConfig) -> None:
    shape = " x ".join(str(n) for n in (config.batch_size, *config.shape))
    device = init_distributed(config.device).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{shape}, width {config.width}, {config.norm} norm, {name}", flush=True)
    print("precision  checkpointing  peak GB  of without  volumes/s  activations", flush=True)
    for precision in config.precisions:
        plain = None
        for checkpointing in config.checkpointing:
            found = measured_apart(config, precision, checkpointing)
            plain = plain or found.peak
            print(
                f"{precision:9}  {str(checkpointing):>13}  {found.peak / GB:7.2f}  {found.peak / plain:10.0%}  "
                f"{found.volumes_per_s:9.4f}  {found.activations:11.2%}",
                flush=True,
            )


def measured_apart(config: BenchmarkConfig, precision: str, checkpointing: bool) -> Measured:
    """Measures in a fresh process, whose memory nothing else has used."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, config, precision, checkpointing).result()


def measure(config: BenchmarkConfig, precision: str, checkpointing: bool) -> Measured:
    device = init_distributed(config.device).device
    model = Volume3dNet(NetConfig(width=config.width, norm=config.norm, checkpointing=checkpointing))
    model = channels_last_model(model).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    for weights in model.parameters():
        weights.grad = torch.zeros_like(weights)  # allocated before the first step, as in later ones
    optimizer.step()
    kind, loss = training_precision(device, precision), Volume3dLoss(LossConfig(), torch.full((14,), 0.1))
    scaler, batch = kind.scaler(), made_up(config, device)

    def step() -> None:
        with kind.autocast():
            value = loss(model, batch)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=False)
        value.item()

    before = peak_bytes(device)
    if config.steps > 1:
        step()
    seconds = seconds_of(lambda: [step() for _ in range(config.steps)], device) / config.steps
    peak = peak_bytes(device) - (before if device.type == "cpu" else 0)
    record = seconds_of_a_record(model, batch, kind, device)
    return Measured(peak, config.batch_size / seconds, record / (seconds * config.activations_every))


def made_up(config: BenchmarkConfig, device: torch.device) -> dict[str, torch.Tensor]:
    n = config.batch_size
    batch = {"image": torch.rand(n, 1, *config.shape), "labels": torch.zeros(n, 14)}
    return batch_on(device, batch | {key: torch.zeros(n) for key in PATIENT_KEYS}, last=True)


def seconds_of_a_record(model: Volume3dNet, batch: dict, kind, device: torch.device) -> float:
    """Seconds to compute the statistics of the layers in ActivationsConfig once."""
    outputs = []
    for layer in ActivationsConfig().layers:
        model.backbone.get_submodule(layer).register_forward_hook(lambda _, __, out: outputs.append(out))
    with torch.no_grad(), kind.autocast():
        model(batch)
    return seconds_of(lambda: [statistics("", out, ActivationsConfig().bins) for out in outputs], device)


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
