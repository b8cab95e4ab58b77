"""The transformer of stage 2; its batches are defined in aneurysm/stage2/tokens.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from aneurysm.labels import LABELS
from aneurysm.stage2.config import NetConfig
from aneurysm.stage2.layers import Layer, Pool, distance_bias
from aneurysm.stage2.max_baseline import MaxBaseline
from aneurysm.stage2.tokens import KINDS, PLANES

N_NUMBERS = {"logits": 14, "heatmap_max": 14, "peaks": 28}
WAVELENGTHS_MM = (20.0, 800.0)  # range of the position embedding: from local to beyond a head
N_WAVELENGTHS = 12
SLICE_PRIOR = -5.0  # initial mean logit of a label on a slice: probability 1 in 150
FLOAT16_MAX = 65504.0  # features are stored as float16; larger ones are infinite


class Stage2Net(nn.Module):
    """The network: a batch of series to (batch, 14) logits in the order of LABELS."""

    def __init__(self, config: NetConfig, inputs: Sequence[str], n_features: int, n_peak_features: int = 0):
        """`inputs` as TokensConfig.inputs; `n_features`, `n_peak_features` are widths in the features files.

        Raises ValueError if there is neither pooling nor a baseline.
        """
        super().__init__()
        self.heads = config.heads
        self.embed = TokenEmbedding(config, inputs, n_features, n_peak_features)
        self.class_token = nn.Parameter(torch.randn(config.width) * 0.02)
        self.layers = nn.ModuleList(Layer(config.width, config.heads, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.prior = nn.Parameter(torch.zeros(len(LABELS)))
        self.pool = self.pooled_head = None
        if config.pooling:
            linear = nn.Linear(config.width * len(config.pooling), len(LABELS), bias=False)
            nn.init.zeros_(linear.weight)
            self.pool, self.pooled_head = Pool(config.pooling), nn.Sequential(nn.Dropout(config.dropout), linear)
        self.max_baseline = (
            MaxBaseline(inputs) if config.max_baseline and {"logits", "heatmap_max"} & set(inputs) else None
        )
        if self.pooled_head is None and self.max_baseline is None:
            raise ValueError("net.pooling: expected any of gem, mean, max, cls where there is no baseline of maxima")
        self.slice_head = SliceHead(config.width) if self.max_baseline is not None and "logits" in inputs else None
        self.rescored = "heatmap_max" if "heatmap_max" in inputs else "logits"

    def forward(self, batch: dict[str, Tensor], with_slices: bool = False) -> Tensor | tuple[Tensor, Tensor | None]:
        """Logits (batch, 14); `with_slices` adds slice logits (batch, slices, 14), None without max_baseline or without
        `logits` among the inputs."""
        mask = batch["mask"]
        x, about = self.embed(batch)
        x = torch.cat([(self.class_token + about)[:, None], x], dim=1)
        bias = distance_bias(batch["depth_mm"], mask, self.heads)
        for layer in self.layers:
            x = layer(x, bias)
        x = self.norm(x).float()
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 makes ties, which lower the AUC
            logits = self.prior.expand(len(x), -1)
            if self.pooled_head is not None:
                logits = logits + self.pooled_head(self.pool(x[:, 0], x[:, 1:], mask))
            of_slices = None if self.slice_head is None else self.slice_head(x[:, 1:], slice_evidence(batch))
            if self.max_baseline is not None:
                logits = logits + self.max_baseline(batch if of_slices is None else batch | {self.rescored: of_slices})
            return (logits, of_slices) if with_slices else logits

    @torch.no_grad()
    def start_from(self, series: Iterable[dict[str, Tensor]], prevalence: Tensor) -> None:
        """Sets the normalisation of the inputs from training series, and the initial bias to logit(prevalence).

        `series` are batches of one, `features` not needed; `prevalence` (14,) in (0, 1).
        """
        series = list(series)
        self.embed.scale_to(series)
        if self.slice_head is not None:
            self.slice_head.scale_to(series)
            series = [one | {self.rescored: self.slice_head.alone(slice_evidence(one))} for one in series]
        if self.max_baseline is not None:
            self.max_baseline.scale_to(series)
        self.prior.copy_(prevalence.logit())


def slice_evidence(batch: dict[str, Tensor]) -> Tensor:
    """(batch, slices, 14) logits of stage 1 per slice: heatmap maxima, or `logits` where they are NaN."""
    highest = batch.get("heatmap_max")
    return batch["logits"] if highest is None else torch.where(highest.isnan(), batch["logits"], highest)


class SliceHead(nn.Module):
    """Re-scores each slice in the context of the others: scaled evidence of stage 1 plus a transformer term."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(len(LABELS)))
        self.add = nn.Linear(width, len(LABELS))
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)
        self.register_buffer("level", torch.zeros(len(LABELS)))

    def forward(self, x: Tensor, evidence: Tensor) -> Tensor:
        """(batch, slices, 14) logits from x (batch, slices, width) and evidence (batch, slices, 14)."""
        return self.alone(evidence) + self.add(x)

    def alone(self, evidence: Tensor) -> Tensor:
        """The logits without the transformer term."""
        return self.weight * (evidence - self.level)

    def scale_to(self, series: Sequence[dict[str, Tensor]]) -> None:
        """Shifts the evidence to a mean of SLICE_PRIOR: fewer slices show an aneurysm than in stage 1's training."""
        mean = torch.cat([slice_evidence(one)[0] for one in series]).mean(dim=0)
        self.level.copy_(mean - SLICE_PRIOR)


class TokenEmbedding(nn.Module):
    """Embeds each slice in `width` dimensions: stage 1's outputs, position, modality and plane."""

    def __init__(self, config: NetConfig, inputs: Sequence[str], n_features: int, n_peak_features: int):
        super().__init__()
        self.n_features, self.input_dropout = n_features, config.input_dropout
        self.features = None
        if "features" in inputs:
            self.features = nn.ModuleList([nn.LayerNorm(n_features), nn.Linear(n_features, config.width)])
        widths = N_NUMBERS | {"peak_features": n_peak_features}
        self.names = [name for name in widths if name in inputs]
        n_numbers = sum(widths[name] for name in self.names)
        self.register_buffer("mean", torch.zeros(n_numbers))
        self.register_buffer("sd", torch.ones(n_numbers))
        self.numbers = nn.Linear(n_numbers, config.width) if n_numbers else None
        lowest, highest = torch.tensor(WAVELENGTHS_MM).log2().tolist()
        wavelengths = torch.logspace(lowest, highest, N_WAVELENGTHS, base=2.0)
        self.register_buffer("wavelengths_mm", wavelengths, persistent=False)
        self.depth = nn.Linear(2 * N_WAVELENGTHS, config.width)
        self.modality = nn.Embedding(1 + len(KINDS), config.width)
        self.plane = nn.Embedding(1 + len(PLANES), config.width)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(batch, slices, width) embeddings of the slices, and (batch, width) of modality and plane."""
        about = self.modality(batch["modality"]) + self.plane(batch["plane"])
        angle = 2 * torch.pi * batch["depth_mm"][..., None] / self.wavelengths_mm
        x = self.depth(torch.cat([angle.sin(), angle.cos()], dim=-1)) + about[:, None]
        if self.numbers is not None:
            x = x + self.numbers(torch.nan_to_num((self._numbers(batch) - self.mean) / self.sd))
        if self.features is not None:
            x = x + self._features(batch["features"])
        return x, about

    def _features(self, features: Tensor) -> Tensor:
        """(batch, slices, width); dropout removes a feature from all slices of a series at once."""
        norm, project = self.features
        kept = torch.ones_like(features[:, :1])
        kept = functional.dropout(kept, self.input_dropout, self.training)
        features = torch.nan_to_num(features, posinf=FLOAT16_MAX, neginf=-FLOAT16_MAX)
        return project(norm(features) * kept)

    def scale_to(self, series: Sequence[dict[str, Tensor]]) -> None:
        """Sets mean and standard deviation of all inputs except features from series, each a batch of one."""
        if self.numbers is not None:
            numbers = torch.cat([self._numbers(one)[0] for one in series])
            self.mean.copy_(torch.nan_to_num(numbers.nanmean(dim=0)))
            self.sd.copy_(torch.nan_to_num(((numbers - self.mean) ** 2).nanmean(dim=0).sqrt(), 1.0).clamp(min=1e-2))

    def _numbers(self, batch: dict[str, Tensor]) -> Tensor:
        return torch.cat([batch[name] for name in self.names], dim=-1)
