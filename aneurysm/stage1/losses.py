"""The loss of a batch of windows: weighted sum over logits, heatmaps and vessel masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from aneurysm.labels import LABELS
from aneurysm.stage1.config import LossConfig, ModelConfig
from aneurysm.training.losses import location_loss, sac_loss, vessel_location_loss, vessel_loss

SAC_PIXELS = 8.0  # map pixels of a 5 mm sac


class Stage1Loss:
    """loss(model, batch): scalar loss of a batch with image, labels (batch, 14) and the targets of the model's heads.

    sac      (batch, n, n) uint8: 0 background, 1 + index of the location in a sac, RIM ignored; sacs are masks, or
             discs around localizers
    corner   (batch, 2) position of crops, as in Stage1Net.forward; optional
    vessels  (batch, n, n) uint8: 0 background, 1 + index of the location, or UNKNOWN
    """

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
    """Weighted mean over labels and windows; the focal loss has gamma 2 and no class balancing (alpha)."""
    if config.logits == "bce":
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    else:
        each = sigmoid_focal_loss(logits, labels, alpha=-1, gamma=2.0, reduction="none")
    weights = torch.ones(len(LABELS), device=logits.device)
    weights[-1] = config.present_weight
    return (each * weights).sum() / (weights.sum() * len(logits))
