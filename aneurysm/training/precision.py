"""How numbers are kept in training and prediction: how many bits they have, and in which order they lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from time import perf_counter

import torch
from torch import Tensor, nn

from aneurysm.training.config import PRECISIONS

FASTER = 1.2  # bfloat16 has to be this much faster than float32 on a CPU, so that noise does not choose it
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes


@dataclass(frozen=True)
class Precision:
    """autocast() is a context for the forward pass; scaler() belongs to fp16 and does nothing else."""

    device_type: str
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)


def flush_denormals() -> None:
    """CPUs take numbers below 1e-38 for 0 from here on in this thread and those that it starts.

    Gradients of maps that are almost everywhere sure hold many of them; some CPUs compute with these 100 times slower.
    """
    torch.set_flush_denormal(True)


def training_precision(device: torch.device, kind: str = "auto", model: nn.Module | None = None) -> Precision:
    """The precision of that kind; `auto` is native_format. ValueError for an unknown kind."""
    if kind not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {kind}")
    if kind == "auto":
        kind = native_format(device, model)
    return Precision(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[kind])


def inference_precision(device: torch.device, kind: str = "auto") -> Precision:
    """The precision of that kind, whatever the model was trained in; `auto` is float32 on a CPU, so that every
    processor gives the same probabilities, and native_format elsewhere. ValueError for an unknown kind."""
    return training_precision(device, "fp32" if kind == "auto" and device.type == "cpu" else kind)


def native_format(device: torch.device, model: nn.Module | None = None) -> str:
    """bf16, fp16 or fp32: what trains `model` fastest on the device. The only place where the hardware decides.

    GPUs from compute capability 8.0 on take bf16, older ones fp16. A CPU that has bfloat16 instructions takes them
    where a short measurement in this process shows them to be faster for the model's kind of convolutions.
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
    """Time of a small training step on the CPU in float32, divided by its time in bfloat16; measured once a process.

    With dense convolutions, or with `depthwise` ones among them.
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
        for _ in range(6):  # in turn, so that other work beside it slows both
            for dtype, seconds in times.items():
                start = perf_counter()
                with Precision("cpu", dtype).autocast():
                    block(images).float().square().mean().backward()
                seconds.append(perf_counter() - start)
    return min(times[torch.float32][1:]) / min(times[torch.bfloat16][1:])


def channels_last(tensor: Tensor) -> Tensor:
    """The same tensor, its channels last in memory where it is a batch of images or volumes, or such weights."""
    return tensor.to(memory_format=CHANNELS_LAST[tensor.ndim]) if tensor.ndim in CHANNELS_LAST else tensor


def channels_last_model(model: nn.Module) -> nn.Module:
    """The same model; its weights are laid out anew, in place."""
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = channels_last(tensor.data)
    return model


def batch_on(device: torch.device, batch: dict[str, Tensor], last: bool) -> dict[str, Tensor]:
    """The batch on that device, with its images and volumes channels last where asked for."""
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    return {name: channels_last(tensor) for name, tensor in moved.items()} if last else moved
