"""Losses of maps that answer for every pixel of an image or cell of a volume: a sac, its location, the vessel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from aneurysm.folds.targets import RIM

BACKGROUND_WEIGHT = 0.05  # of a pixel without a vessel, against 1 of one with
UNKNOWN = 255  # in a vessel mask: no mask is there


def sac_loss(logits: Tensor, sac: Tensor, dice_weight: float, sac_pixels: float) -> Tensor:
    """Focal loss (gamma 2) of the pixels (batch, ...) that are no rim, and Dice of each image, smoothed by 1.

    `sac` is 0, a location's number, or RIM. The focal loss is a sum per image in units of a typical sac, which fills
    `sac_pixels`: any parts of a step add up to the same.
    """
    known, target = sac != RIM, ((sac > 0) & (sac != RIM)).float()
    focal = sigmoid_focal_loss(logits, target, alpha=-1, gamma=2.0, reduction="none") * known
    probability = logits.sigmoid() * known
    both, each = (probability * target).flatten(1).sum(1), (probability + target).flatten(1).sum(1)
    dice = 1 - (2 * both + 1) / (each + 1)
    return focal.sum() / (sac_pixels * len(logits)) + dice_weight * dice.mean()


def location_loss(logits: Tensor, sac: Tensor, sac_pixels: float) -> Tensor:
    """Cross-entropy between the locations (batch, 13, ...) where `sac` has one; summed and divided as sac_loss."""
    where = torch.where((sac > 0) & (sac != RIM), sac.long() - 1, -1)
    return functional.cross_entropy(logits, where, ignore_index=-1, reduction="sum") / (sac_pixels * len(logits))


def vessel_loss(logits: Tensor, vessels: Tensor) -> Tensor:
    """Cross-entropy of the pixels (batch, ...) whose vessel is known, their weighted mean: vessels fill few of them,
    so background counts BACKGROUND_WEIGHT; 0, with a gradient, where none is known."""
    known = vessels != UNKNOWN
    weight = torch.where(vessels == 0, BACKGROUND_WEIGHT, 1.0) * known
    each = functional.cross_entropy(logits, vessels.long(), ignore_index=UNKNOWN, reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1e-6)


def vessel_location_loss(logits: Tensor, vessels: Tensor) -> Tensor:
    """Mean cross-entropy between the locations (batch, 13, ...) of the pixels of known vessels (as vessel_loss): an
    aneurysm there would have the vessel's location, and vessels are far more than aneurysms."""
    where = torch.where((vessels > 0) & (vessels != UNKNOWN), vessels.long() - 1, -1)
    total = functional.cross_entropy(logits, where, ignore_index=-1, reduction="sum")
    return total / (where >= 0).sum().clamp(min=1)
