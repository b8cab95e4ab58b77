"""The loss of a batch of windows: logits, heatmaps and vessel masks, each with its weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from aneurysm.labels import LABELS
from aneurysm.stage1.config import LossConfig, ModelConfig
from aneurysm.training.losses import location_loss, sac_loss, vessel_location_loss, vessel_loss

SAC_PIXELS = 8.0  # of a map, that a sac of 5 mm fills


class Stage1Loss:
    """loss(model, batch): batch has image, labels, where images are parts of inputs corner (batch, 2), and sac
    (batch, n, n) uint8, 0 where no aneurysm is, 1 + index of its location where one is, RIM where neither answer is
    wrong, and vessels (batch, n, n) 0..13 or UNKNOWN; the last two only where the model has such a head. Sacs may be
    masks, or discs around localizers."""

    def __init__(self, config: LossConfig, heads: ModelConfig):
        self.config, self.heads = config, heads

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        outputs = model(*(batch[name] for name in ("image", "corner") if name in batch))
        total = self.config.logits_weight * logits_loss(outputs["logits"].float(), batch["labels"], self.config)
        if "heatmap" in outputs:
            found = sac_loss(outputs["aneurysm_map"].float()[:, 0], batch["sac"], self.config.dice_weight, SAC_PIXELS)
            where = location_loss(outputs["location_map"].float(), batch["sac"], SAC_PIXELS)
            total = total + self.heads.heatmap_weight * (found + self.config.location_weight * where)
        if "vessels" in outputs:
            vessels = vessel_loss(outputs["vessels"].float(), batch["vessels"])
            if "location_map" in outputs:
                vessels = vessels + vessel_location_loss(outputs["location_map"].float(), batch["vessels"])
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
