"""The loss of a batch of windows: logits, heatmaps and vessel masks, each with its weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from aneurysm.data.marks import RIM
from aneurysm.labels import LABELS
from aneurysm.stage1.config import HeadsConfig, LossConfig

SAC_PIXELS = 8.0  # of a map, that a sac of 5 mm fills
BACKGROUND_WEIGHT = 0.05  # of a pixel without a vessel, against 1 of one with
UNKNOWN = 255  # in a vessel mask: no mask is there


class Stage1Loss:
    """loss(model, batch): batch has image, labels, where images are parts of inputs corner (batch, 2), and sac
    (batch, n, n) uint8, 0 where no aneurysm is, 1 + index of its location where one is, RIM where neither answer is
    wrong, and vessels (batch, n, n) 0..13 or UNKNOWN; the last two only where the model has such a head. Sacs may be
    masks, or discs around localizers."""

    def __init__(self, config: LossConfig, heads: HeadsConfig):
        self.config, self.heads = config, heads

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        answer = model(*(batch[name] for name in ("image", "corner") if name in batch))
        total = self.config.logits_weight * logits_loss(answer["logits"].float(), batch["labels"], self.config)
        if "heat" in answer:
            found = sac_loss(answer["found"].float()[:, 0], batch["sac"], self.config.dice_weight)
            where = location_loss(answer["location"].float(), batch["sac"])
            total = total + self.heads.heat_weight * (found + self.config.location_weight * where)
        if "vessels" in answer:
            vessels = vessel_loss(answer["vessels"].float(), batch["vessels"])
            if "location" in answer:
                vessels = vessels + vessel_location_loss(answer["location"].float(), batch["vessels"])
            total = total + self.heads.vessel_weight * vessels
        return total


def logits_loss(logits: Tensor, labels: Tensor, config: LossConfig) -> Tensor:
    """Weighted mean over labels and windows; focal with gamma 2 and no balance between positives and negatives."""
    if config.logits == "bce":
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    else:
        each = sigmoid_focal_loss(logits, labels, alpha=-1, gamma=2.0, reduction="none")
    weights = torch.ones(len(LABELS), device=logits.device)
    weights[-1] = config.present_weight
    return (each * weights).sum() / (weights.sum() * len(logits))


def sac_loss(logits: Tensor, sac: Tensor, dice_weight: float) -> Tensor:
    """Focal loss (gamma 2) of the pixels (batch, n, n) that are no rim, and Dice of each window, smoothed by 1.

    The former is a sum per window in units of a typical sac: any parts of a step add up to the same.
    """
    known, target = sac != RIM, ((sac > 0) & (sac != RIM)).float()
    focal = sigmoid_focal_loss(logits, target, alpha=-1, gamma=2.0, reduction="none") * known
    probability = logits.sigmoid() * known
    both, each = (probability * target).sum(dim=(1, 2)), (probability + target).sum(dim=(1, 2))
    dice = 1 - (2 * both + 1) / (each + 1)
    return focal.sum() / (SAC_PIXELS * len(logits)) + dice_weight * dice.mean()


def location_loss(logits: Tensor, sac: Tensor) -> Tensor:
    """Cross-entropy between the locations (batch, 13, n, n) where `sac` has one; summed and divided as sac_loss."""
    where = torch.where((sac > 0) & (sac != RIM), sac.long() - 1, -1)
    return functional.cross_entropy(logits, where, ignore_index=-1, reduction="sum") / (SAC_PIXELS * len(logits))


def vessel_loss(logits: Tensor, vessels: Tensor) -> Tensor:
    """Cross-entropy of the pixels (batch, n, n) whose vessel is known, their weighted mean: vessels fill few of them,
    so background counts BACKGROUND_WEIGHT; 0, with a gradient, where none is known."""
    known = vessels != UNKNOWN
    weight = torch.where(vessels == 0, BACKGROUND_WEIGHT, 1.0) * known
    each = functional.cross_entropy(logits, vessels.long(), ignore_index=UNKNOWN, reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1e-6)


def vessel_location_loss(logits: Tensor, vessels: Tensor) -> Tensor:
    """Mean cross-entropy between the locations (batch, 13, n, n) of the pixels of known vessels (as vessel_loss): an
    aneurysm there would have the vessel's location, and vessels are far more than aneurysms."""
    where = torch.where((vessels > 0) & (vessels != UNKNOWN), vessels.long() - 1, -1)
    total = functional.cross_entropy(logits, where, ignore_index=-1, reduction="sum")
    return total / (where >= 0).sum().clamp(min=1)
