"""Binary cross-entropy of the 14 labels: how much each label counts, and its positives beside its negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from aneurysm.labels import LABELS


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
