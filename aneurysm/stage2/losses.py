"""The loss of a batch of series: binary cross-entropy of the 14 labels, weighted."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from aneurysm.labels import LABELS
from aneurysm.stage2.config import LossConfig


class Stage2Loss:
    """loss(model, batch): a batch of series (tokens.py) with labels (batch, 14)."""

    def __init__(self, config: LossConfig, prevalence: Tensor):
        """`prevalence` (14,) in (0, 1): the share of positives among the training series."""
        self.label_weight = label_weights(config.present_share)
        self.pos_weight = ((1 - prevalence) / prevalence).clamp(1.0, max(1.0, config.pos_weight_cap))

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        labels = batch["labels"]
        pos_weight, label_weight = (w.to(labels.device) for w in (self.pos_weight, self.label_weight))
        logits = model({name: tensor for name, tensor in batch.items() if name != "labels"}).float()
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none", pos_weight=pos_weight)
        return (each * label_weight).sum(dim=1).mean()


def label_weights(present_share: float) -> Tensor:
    """(14,) adding up to 1, the last of them `present_share`, the others alike."""
    weights = torch.full((len(LABELS),), (1 - present_share) / (len(LABELS) - 1))
    weights[-1] = present_share
    return weights
