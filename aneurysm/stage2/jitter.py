"""Training series changed at random: other slices, other distances, noise; what is said of them stays true."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aneurysm.stage2.config import JitterConfig
from aneurysm.stage2.tokens import KINDS, PER_SLICE, header_modality, modality_index

BY_HEADER = torch.tensor([0, *(modality_index(header_modality(kind)) for kind in KINDS)])  # of each modality's index


def augment(tokens: dict[str, Tensor], config: JitterConfig, rng: np.random.Generator) -> dict[str, Tensor]:
    """The tokens of a series, changed; at least one slice stays."""
    kept = torch.from_numpy(drawn_slices(tokens["depth_mm"].numpy(), config, rng))
    tokens = {name: tensor[kept] if name in PER_SLICE else tensor for name, tensor in tokens.items()}
    stretch = 1 + rng.uniform(-config.stretch, config.stretch)
    shift_mm = rng.uniform(-config.shift_mm, config.shift_mm)
    tokens["depth_mm"] = tokens["depth_mm"] * stretch + shift_mm
    for name in ("logits", "heat"):
        if name in tokens:
            tokens[name] = tokens[name] + _noise(tokens[name], config.logit_noise, rng)
    for name in ("features", "peak_features"):
        if name in tokens:
            numbers = tokens[name]
            own_sd = float(numbers[numbers.isfinite()].std(correction=0))  # what float16 cannot hold is infinite
            tokens[name] = numbers + _noise(numbers, config.feature_noise * own_sd, rng)
    for name in ("modality", "plane"):
        if rng.random() < config.unknown_p:
            tokens[name] = torch.zeros_like(tokens[name])
    if rng.random() < config.header_modality_p:
        tokens["modality"] = BY_HEADER[tokens["modality"]]
    return tokens


def drawn_slices(depth_mm: np.ndarray, config: JitterConfig, rng: np.random.Generator) -> np.ndarray:
    """Indices of the slices that stay: every n-th from a random first one on, less those that are dropped."""
    spacing_mm = float(np.median(np.abs(np.diff(depth_mm)))) if len(depth_mm) > 1 else np.inf
    largest_step = max(1, int(config.thin_to_mm / max(spacing_mm, 1e-3)))
    step = int(rng.integers(1, min(largest_step, len(depth_mm)) + 1))
    kept = np.arange(int(rng.integers(step)), len(depth_mm), step)
    stays = rng.random(len(kept)) >= config.drop_p
    stays[rng.integers(len(kept))] = True
    return kept[stays]


def _noise(like: Tensor, sd: float, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(like.shape, np.float32) * np.float32(sd))
