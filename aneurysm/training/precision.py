"""Mixed precision and memory format in training and inference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from time import perf_counter

import torch
from torch import Tensor, nn

from aneurysm.training.config import PRECISIONS

FASTER = 1.2  # least speed-up for choosing bfloat16 on a CPU; above timing noise
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by number of dimensions


@dataclass(frozen=True)
class Precision:
    """autocast() is the context of the forward pass; scaler() is disabled except for fp16."""

    device_type: str
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)


def flush_denormals() -> None:
    """Makes the CPU round numbers below 1e-38 to 0, in this thread and in those that it starts from here on.

    Gradients of maps that are almost everywhere certain hold many of them; some CPUs need 100 times as long for each.
    """
    torch.set_flush_denormal(True)


def training_precision(device: torch.device, kind: str = "auto", model: nn.Module | None = None) -> Precision:
    """The precision for training `model`; `auto` is native_format. ValueError for an unknown `kind`."""
    if kind not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {kind}")
    if kind == "auto":
        kind = native_format(device, model)
    return Precision(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[kind])


def inference_precision(device: torch.device, kind: str = "auto") -> Precision:
    """The precision for inference, independent of that in training; `auto` is float32 on a CPU, so that all processors
    give the same probabilities, and native_format elsewhere. ValueError for an unknown `kind`."""
    return training_precision(device, "fp32" if kind == "auto" and device.type == "cpu" else kind)


def native_format(device: torch.device, model: nn.Module | None = None) -> str:
    """The fastest format for training `model` on the device: bf16, fp16 or fp32.

    GPUs from compute capability 8.0 on: bf16; older ones: fp16. CPUs with bfloat16 instructions: bf16 if a short
    benchmark of the model's kind of convolutions in this process shows a speed-up of at least FASTER. All else: fp32.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if device.type == "cpu" and _cpu_has_bfloat16():
        return "bf16" if bfloat16_speedup(_is_depthwise(model)) >= FASTER else "fp32"
    return "fp32"


def _cpu_has_bfloat16() -> bool:
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _is_depthwise(model: nn.Module | None) -> bool:
    modules = model.modules() if model is not None else ()
    return any(isinstance(module, (nn.Conv2d, nn.Conv3d)) and module.groups > 1 for module in modules)


@cache
def bfloat16_speedup(depthwise: bool) -> float:
    """Time of a small training step on the CPU in float32, divided by that in bfloat16; measured once per process.

    The convolutions are dense, or with `depthwise` one of them is depthwise.
    """
    with torch.random.fork_rng(devices=[]):
        block = nn.Sequential(
            nn.Conv2d(32, 128, 1), nn.BatchNorm2d(128), nn.ReLU(),
            nn.Conv2d(128, 128, 5, padding=2, groups=128) if depthwise else nn.Identity(), nn.BatchNorm2d(128),
            nn.ReLU(), nn.Conv2d(128, 32, 1), nn.Conv2d(32, 32, 3, padding=1),
        ).to(memory_format=torch.channels_last)  # fmt: skip
        images = torch.rand(8, 32, 28, 28).contiguous(memory_format=torch.channels_last)
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    with torch.enable_grad():
        for _ in range(6):  # alternating, so that other load slows both
            for dtype, seconds in times.items():
                start = perf_counter()
                with Precision("cpu", dtype).autocast():
                    block(images).float().square().mean().backward()
                seconds.append(perf_counter() - start)
    return min(times[torch.float32][1:]) / min(times[torch.bfloat16][1:])


def channels_last(tensor: Tensor) -> Tensor:
    """The tensor in channels-last memory format if it has 4 or 5 dimensions, else unchanged."""
    return tensor.to(memory_format=CHANNELS_LAST[tensor.ndim]) if tensor.ndim in CHANNELS_LAST else tensor


def channels_last_model(model: nn.Module) -> nn.Module:
    """Converts the parameters and buffers to channels-last in place; returns the model."""
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = channels_last(tensor.data)
    return model


def batch_on(device: torch.device, batch: dict[str, Tensor], last: bool) -> dict[str, Tensor]:
    """The batch on `device`; with `last`, 4-D and 5-D tensors in channels-last format."""
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    return {name: channels_last(tensor) for name, tensor in moved.items()} if last else moved
