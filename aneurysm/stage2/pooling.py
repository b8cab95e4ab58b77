"""From the slices of a series to one vector or number; slices that are not there count nowhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST = 1e-4  # GeM takes powers of positive numbers


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """(batch, n) mean of x (batch, slices, n) over the slices of mask (batch, slices)."""
    return (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """(batch, n) highest of x (batch, slices, n) over the slices of mask (batch, slices)."""
    return x.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)


class GeM(nn.Module):
    """Generalised mean with a learned power (Radenovic et al. 2018): between mean (1) and maximum (infinity)."""

    def __init__(self):
        super().__init__()
        self.power = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        power = self.power.clamp(1.0, 20.0)
        return masked_mean(x.clamp(min=SMALLEST) ** power, mask) ** (1 / power)


class Pool(nn.Module):
    """Several poolings side by side: (batch, len(names) * width)."""

    def __init__(self, names: tuple[str, ...]):
        super().__init__()
        self.names = names
        self.gem = GeM() if "gem" in names else None

    def forward(self, class_token: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """class_token (batch, width), x (batch, slices, width), mask (batch, slices)"""
        ways = {
            "gem": lambda: self.gem(x, mask),
            "mean": lambda: masked_mean(x, mask),
            "max": lambda: masked_max(x, mask),
            "cls": lambda: class_token,
        }
        return torch.cat([ways[name]() for name in self.names], dim=1)
