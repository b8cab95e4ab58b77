"""Where the numbers of images and volumes lie in memory: channels last, which convolutions are faster with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes


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
