"""From two heads, whether an aneurysm is there and which location one there would have, to the logits of each location.

Few aneurysms of each location are there to learn from: what all of them look like is learned from all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CERTAIN = -1e-6  # log-probabilities nearer to 0 count as this


def location_log_probability(found: Tensor, location: Tensor) -> Tensor:
    """(batch, 13, ...) that an aneurysm is there, and at this location. The logits `found` are (batch, 1, ...),
    `location` (batch, 13, ...)."""
    return functional.logsigmoid(found) + location.log_softmax(dim=1)


def logits_of(log_probability: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p."""
    return log_probability - torch.log(-torch.expm1(log_probability.clamp(max=CERTAIN)))
