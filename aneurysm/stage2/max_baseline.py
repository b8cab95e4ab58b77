"""Baseline without a transformer: weighted maxima of logits and heatmaps over the slices of a series."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.stage2.layers import masked_max

SMOOTH_MM = (0.0, 2.0, 6.0)  # an aneurysm shows on neighbouring slices, a chance maximum does not
START_MM = (0.0, 2.0)  # initial smoothing of the locations and of Aneurysm Present


class MaxBaseline(nn.Module):
    """Weighted sums of maxima over the slices: (batch, 14) logits.

    Each label has maxima of its logit, of the complementary logit (for a location: Aneurysm Present; for Aneurysm
    Present: the highest location) and of its heatmap, each at the smoothings SMOOTH_MM. The 13 locations share their
    weights, Aneurysm Present has its own: single labels have too few series. The initial weights select the label's
    heatmap (without heatmaps its logit), smoothed by 2 mm for Aneurysm Present: best on series new to both stages.
    """

    def __init__(self, inputs: Sequence[str]):
        super().__init__()
        self.with_logits, self.with_heatmap = "logits" in inputs, "heatmap_max" in inputs
        n_kinds = 2 * self.with_logits + self.with_heatmap
        n_maxima = len(SMOOTH_MM) * n_kinds
        weight = torch.zeros(2, n_maxima)  # rows: locations, Aneurysm Present; columns: by smoothing, then by kind
        for own, mm in zip(weight, START_MM, strict=True):
            own[SMOOTH_MM.index(mm) * n_kinds + (n_kinds - 1 if self.with_heatmap else 0)] = 1.0
        self.weight = nn.Parameter(weight)
        self.register_buffer("mean", torch.zeros(len(LABELS), n_maxima))
        self.register_buffer("sd", torch.ones(len(LABELS), n_maxima))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        maxima = (self.maxima(batch) - self.mean) / self.sd
        locations, present = self.weight[0].expand(len(LOCATIONS), -1), self.weight[1:]
        return (maxima * torch.cat([locations, present])).sum(dim=-1)

    def scale_to(self, series: Sequence[dict[str, Tensor]]) -> None:
        """Sets mean and standard deviation of the maxima from training series, each a batch of one."""
        maxima = torch.cat([self.maxima(one) for one in series])
        self.mean.copy_(maxima.mean(dim=0))
        self.sd.copy_(maxima.std(dim=0, correction=0).clamp(min=1e-2))

    def maxima(self, batch: dict[str, Tensor]) -> Tensor:
        """(batch, 14, maxima): Gaussian smoothing (sigma of SMOOTH_MM) along the slice axis, then the maximum."""
        depth_mm, mask = batch["depth_mm"], batch["mask"]
        evidence = torch.cat(self._evidence(batch), dim=-1)  # (batch, slices, 14 * kinds)
        squared_mm = (depth_mm[:, :, None] - depth_mm[:, None, :]) ** 2
        found = [masked_max(evidence, mask)]
        for sigma_mm in SMOOTH_MM[1:]:
            near = torch.exp(-squared_mm / (2 * sigma_mm**2)) * mask[:, None, :]
            near = near / near.sum(dim=-1, keepdim=True).clamp(min=1e-6)
            found.append(masked_max(near @ evidence, mask))
        maxima = torch.stack(found, dim=1).unflatten(-1, (-1, len(LABELS)))  # (batch, smoothings, kinds, 14)
        return maxima.flatten(1, 2).transpose(1, 2)

    def _evidence(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """(batch, slices, 14) of each kind: logit, complementary logit, heatmap (NaN as 0)."""
        kinds, n_locations = [], len(LOCATIONS)
        if self.with_logits:
            own = batch["logits"]
            locations, present = own[..., :n_locations], own[..., n_locations:]
            kinds += [own, torch.cat([present.expand_as(locations), locations.amax(dim=-1, keepdim=True)], dim=-1)]
        if self.with_heatmap:
            kinds.append(torch.nan_to_num(batch["heatmap_max"]))
        return kinds
