"""Layers over the slices of a series: attention with a distance bias in millimetres, and pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

REACH_MM = (4.0, 256.0)  # of the first and last head; log-spaced between
SMALLEST = 1e-4  # GeM clamps its input to this: powers need positive numbers


def distance_bias(depth_mm: Tensor, mask: Tensor, n_heads: int) -> Tensor:
    """(batch, heads, 1 + slices, 1 + slices) attention bias for a class token and the slices after it.

    Minus the distance between two slices divided by the head's reach (ALiBi: Press et al. 2022, here in millimetres); 0
    to and from the class token, -inf to padding. depth_mm, mask (batch, slices).
    """
    reach_mm = torch.logspace(*torch.tensor(REACH_MM).log2().tolist(), n_heads, base=2.0, device=depth_mm.device)
    distance_mm = (depth_mm[:, :, None] - depth_mm[:, None, :]).abs()
    bias = -distance_mm[:, None] / reach_mm[:, None, None]
    bias = functional.pad(bias, (1, 0, 1, 0))
    absent = functional.pad(~mask, (1, 0))
    return bias.masked_fill(absent[:, None, None, :], -torch.inf)


class Layer(nn.Module):
    """Pre-norm transformer layer: self-attention and feed-forward net with residual connections.

    Raises ValueError if `width` is not a multiple of `n_heads`.
    """

    def __init__(self, width: int, n_heads: int, dropout: float):
        super().__init__()
        if width % n_heads:
            raise ValueError(f"net.width {width}: expected a multiple of net.heads, {n_heads}")
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.drop(self._attention(self.norm1(x), bias))
        return x + self.drop(self.feed_forward(self.norm2(x)))

    def _attention(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, n, width = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.out(mixed.transpose(1, 2).reshape(batch, n, width))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """(batch, n) mean of x (batch, slices, n) over the slices of mask (batch, slices)."""
    return (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """(batch, n) maximum of x (batch, slices, n) over the slices of mask (batch, slices)."""
    return x.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)


class GeM(nn.Module):
    """Generalised mean with a learned power, from 1 (mean) to 20 (close to the maximum): Radenovic et al. 2018."""

    def __init__(self):
        super().__init__()
        self.power = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        power = self.power.clamp(1.0, 20.0)
        return masked_mean(x.clamp(min=SMALLEST) ** power, mask) ** (1 / power)


class Pool(nn.Module):
    """Concatenated poolings: (batch, len(names) * width)."""

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
