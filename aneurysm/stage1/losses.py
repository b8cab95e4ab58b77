"""The loss of a batch of windows: logits, heatmaps and vessel masks, each with its weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from aneurysm.labels import LABELS
from aneurysm.stage1.config import HeadsConfig, LossConfig

UNKNOWN = 255  # in a vessel mask: no mask is there


class Stage1Loss:
    """loss(model, batch): batch has image, labels, heat (batch, 13, n, n) in [0, 1], vessels (batch, n, n) 0..13 or
    UNKNOWN; the two only where the model has such a head."""

    def __init__(self, config: LossConfig, heads: HeadsConfig):
        self.config, self.heads = config, heads

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        answer = model(batch["image"])
        total = self.config.logits_weight * logits_loss(answer["logits"].float(), batch["labels"], self.config)
        if "heat" in answer:
            found = heat_loss(answer["found"].float(), batch["heat"].amax(dim=1, keepdim=True), self.config.heat)
            where = location_loss(answer["location"].float(), batch["heat"])
            total = total + self.heads.heat_weight * (found + self.config.location_weight * where)
        if "vessels" in answer:
            total = total + self.heads.vessel_weight * vessel_loss(answer["vessels"].float(), batch["vessels"])
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


def heat_loss(logits: Tensor, target: Tensor, kind: str) -> Tensor:
    """Sum over pixels per window: any parts of a step, on any number of processes, add up to the same.

    `penalty`: pixels near a localizer count less as negatives, by (1 - target)^4 (Law and Deng 2018, equation 1).
    """
    if kind == "focal":
        return sigmoid_focal_loss(logits, target, alpha=-1, gamma=2.0, reduction="sum") / len(logits)
    probability = logits.sigmoid()
    positive = -functional.logsigmoid(logits) * (1 - probability) ** 2
    negative = -functional.logsigmoid(-logits) * probability**2 * (1 - target) ** 4
    return torch.where(target == 1, positive, negative).sum() / len(logits)


def location_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy between the locations at the localizers' pixels, where `target` (batch, 13, n, n) is 1; its sum
    per window."""
    return -(logits.log_softmax(dim=1) * (target == 1)).sum() / len(logits)


def vessel_loss(logits: Tensor, vessels: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels whose vessel is known; 0, with a gradient, where none is."""
    known = (vessels != UNKNOWN).sum().clamp(min=1)
    each = functional.cross_entropy(logits, vessels.long(), ignore_index=UNKNOWN, reduction="sum")
    return each / known
