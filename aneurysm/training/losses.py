"""Losses of the 14 labels, and of dense maps over the pixels of images or the cells of volumes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from aneurysm.folds.targets import RIM
from aneurysm.labels import LABELS

CERTAIN = -1e-6  # log-probabilities are clamped to at most this
BACKGROUND_WEIGHT = 0.05  # loss weight of a pixel without a vessel; 1 for a vessel
UNKNOWN = 255  # value of a vessel mask where no mask is available


def label_weights(present_share: float) -> Tensor:
    """(14,) loss weights that sum to 1: `present_share` for Aneurysm Present, equal ones for the locations."""
    weights = torch.full((len(LABELS),), (1 - present_share) / (len(LABELS) - 1))
    weights[-1] = present_share
    return weights


def pos_weights(prevalence: Tensor, cap: float) -> Tensor:
    """(14,) loss weight of positives: negatives per positive, clamped to 1..`cap` (1 if `cap` is lower).

    `prevalence` (14,) in (0, 1): fraction of positives among the training series.
    """
    return ((1 - prevalence) / prevalence).clamp(1.0, max(1.0, cap))


def label_loss(logits: Tensor, labels: Tensor, pos_weight: Tensor, label_weight: Tensor) -> Tensor:
    """(batch,) weighted binary cross-entropy of logits (batch, 14), summed over labels; NaN labels are masked."""
    known = labels.isfinite()
    each = functional.binary_cross_entropy_with_logits(
        logits.float(), torch.nan_to_num(labels), reduction="none", pos_weight=pos_weight.to(labels.device)
    )
    return (each * label_weight.to(labels.device) * known).sum(dim=1)


def location_log_probability(found: Tensor, location: Tensor) -> Tensor:
    """(batch, 13, ...) log-probability of an aneurysm of each location: log p(aneurysm) + log p(location | aneurysm).

    `found` (batch, 1, ...) are sigmoid logits, `location` (batch, 13, ...) softmax logits. The factors are separate
    because each location has few aneurysms: the appearance of aneurysms is learned from all of them.
    """
    return functional.logsigmoid(found) + location.log_softmax(dim=1)


def logits_of(log_probability: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p; finite for p = 1, too (CERTAIN)."""
    return log_probability - torch.log(-torch.expm1(log_probability.clamp(max=CERTAIN)))


def sac_loss(logits: Tensor, sac: Tensor, dice_weight: float, sac_pixels: float) -> Tensor:
    """Focal loss (gamma 2) plus `dice_weight` x mean Dice loss per image (smoothing 1); rim pixels are ignored.

    `logits` and `sac` (batch, ...); sac is 0, 1 + index of the location, or RIM. The focal loss is summed over pixels
    and divided by the number of images and by `sac_pixels`, the size of a typical sac, so that splitting a batch into
    equal micro-batches does not change it.
    """
    known, target = sac != RIM, ((sac > 0) & (sac != RIM)).float()
    focal = sigmoid_focal_loss(logits, target, alpha=-1, gamma=2.0, reduction="none") * known
    probability = logits.sigmoid() * known
    both, each = (probability * target).flatten(1).sum(1), (probability + target).flatten(1).sum(1)
    dice = 1 - (2 * both + 1) / (each + 1)
    return focal.sum() / (sac_pixels * len(logits)) + dice_weight * dice.mean()


def location_loss(logits: Tensor, sac: Tensor, sac_pixels: float) -> Tensor:
    """Cross-entropy over locations (batch, 13, ...) in the pixels of sacs (batch, ...); normalised as in sac_loss."""
    where = torch.where((sac > 0) & (sac != RIM), sac.long() - 1, -1)
    return functional.cross_entropy(logits, where, ignore_index=-1, reduction="sum") / (sac_pixels * len(logits))


def vessel_loss(logits: Tensor, vessels: Tensor) -> Tensor:
    """Weighted mean cross-entropy of logits (batch, 14, ...) over the pixels of `vessels` (batch, ...) that are not
    UNKNOWN; background has BACKGROUND_WEIGHT, because vessels fill few pixels. 0, but differentiable, if all are."""
    known = vessels != UNKNOWN
    weight = torch.where(vessels == 0, BACKGROUND_WEIGHT, 1.0) * known
    each = functional.cross_entropy(logits, vessels.long(), ignore_index=UNKNOWN, reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1e-6)


def vessel_location_loss(logits: Tensor, vessels: Tensor) -> Tensor:
    """Mean cross-entropy over locations (batch, 13, ...) in the vessel pixels of `vessels`: an aneurysm there would
    have the vessel's location, and there are far more vessel pixels than aneurysm pixels."""
    where = torch.where((vessels > 0) & (vessels != UNKNOWN), vessels.long() - 1, -1)
    total = functional.cross_entropy(logits, where, ignore_index=-1, reduction="sum")
    return total / (where >= 0).sum().clamp(min=1)
