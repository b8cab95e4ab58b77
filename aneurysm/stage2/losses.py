"""The loss of stage 2: weighted binary cross-entropy of the 14 labels, for series and for their slices."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from aneurysm.stage2.config import LossConfig
from aneurysm.training.losses import label_loss, label_weights, pos_weights


class Stage2Loss:
    """loss(model, batch): loss () of a batch (tokens.py) with labels and, unless slice_weight is 0, slice_labels."""

    def __init__(self, config: LossConfig, prevalence: Tensor):
        """`prevalence` (14,) in (0, 1): fraction of positives among the training series."""
        self.label_weight = label_weights(config.present_share)
        self.slice_weight = config.slice_weight
        self.pos_weight = pos_weights(prevalence, config.pos_weight_cap)

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        labels = batch["labels"]
        inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", "slice_labels")}
        logits, of_slices = model(inputs, with_slices=True)
        total = label_loss(logits, labels, self.pos_weight, self.label_weight)
        if self.slice_weight and of_slices is not None:
            label_weight = self.label_weight.to(labels.device)
            total = total + self.slice_weight * slice_loss(of_slices.float(), batch, label_weight)
        return total.mean()


def slice_loss(logits: Tensor, batch: dict[str, Tensor], label_weight: Tensor) -> Tensor:
    """(batch,) mean loss over the slices with known labels, 0 without any; logits (batch, slices, 14)."""
    labels = batch["slice_labels"]
    known = labels.isfinite().all(dim=-1) & batch["mask"]
    each = functional.binary_cross_entropy_with_logits(logits, torch.nan_to_num(labels), reduction="none")
    return ((each * label_weight).sum(dim=-1) * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
