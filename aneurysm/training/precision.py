"""The number format of the forward pass: bfloat16 where the device has it, float16 with a scaler else, or float32."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aneurysm.training.config import PRECISIONS


@dataclass(frozen=True)
class Precision:
    """autocast() is a context for the forward pass; scaler() belongs to fp16 and does nothing else."""

    device_type: str
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)


def choose_precision(device: torch.device, kind: str = "auto") -> Precision:
    """The precision of that kind; `auto` takes what the device computes natively. ValueError for an unknown kind."""
    if kind not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {kind}")
    if kind == "auto":
        kind = _native(device)
    return Precision(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[kind])


def inference_precision(device: torch.device, trained: str) -> Precision:
    """For a model that was `trained` in a precision, perhaps on another device: what this one computes natively, but
    float32 where that was chosen."""
    return choose_precision(device, "fp32" if trained == "fp32" else "auto")


def _native(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if device.type == "cpu":
        found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return "bf16" if found.get("avx512_bf16") or found.get("amx_bf16") else "fp32"
    return "fp32"
