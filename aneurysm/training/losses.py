"""Losses of the 14 labels, and of maps that answer for every pixel of an image or cell of a volume."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from aneurysm.folds.targets import RIM
from aneurysm.labels import LABELS

CERTAIN = -1e-6  # log-probabilities nearer to 0 count as this
BACKGROUND_WEIGHT = 0.05  # of a pixel without a vessel, against 1 of one with
UNKNOWN = 255  # in a vessel mask: no mask is there


def label_weights(present_share: float) -> Tensor:
    """(14,) adding up to 1, the last of them `present_share`, the others alike."""
    weights = torch.full((len(LABELS),), (1 - present_share) / (len(LABELS) - 1))
    weights[-1] = present_share
    return weights


def pos_weights(prevalence: Tensor, cap: float) -> Tensor:
    """(14,) times that a positive counts: as often as there are negatives for it, but 1 at least and `cap` at most.

    `prevalence` (14,) in (0, 1): the share of positives among the training series.
    """
    return ((1 - prevalence) / prevalence).clamp(1.0, max(1.0, cap))


def label_loss(logits: Tensor, labels: Tensor, pos_weight: Tensor, label_weight: Tensor) -> Tensor:
    """(batch,) weighted cross-entropy of logits (batch, 14); a label that is NaN is not asked about."""
    known = labels.isfinite()
    each = functional.binary_cross_entropy_with_logits(
        logits.float(), torch.nan_to_num(labels), reduction="none", pos_weight=pos_weight.to(labels.device)
    )
    return (each * label_weight.to(labels.device) * known).sum(dim=1)


def location_log_probability(found: Tensor, location: Tensor) -> Tensor:
    """(batch, 13, ...) that an aneurysm is there, and at this location: few of each location are there to learn from,
    and what all of them look like is learned from all of them. The logits `found` are (batch, 1, ...),
    `location` (batch, 13, ...)."""
    return functional.logsigmoid(found) + location.log_softmax(dim=1)


def logits_of(log_probability: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p."""
    return log_probability - torch.log(-torch.expm1(log_probability.clamp(max=CERTAIN)))


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
