"""Predicts the 14 probabilities of a series with a trained stage 2, and with the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from aneurysm.cache.features import SeriesFeatures
from aneurysm.config import from_saved
from aneurysm.labels import MIRROR, MODALITIES
from aneurysm.stage2.config import Stage2Config
from aneurysm.stage2.model import Stage2Net
from aneurysm.stage2.tokens import series_tokens
from aneurysm.training.checkpoint import load_model
from aneurysm.training.precision import inference_precision


def load_stage2(
    path: Path, device: torch.device | str = "cpu", unseen: int | None = None
) -> tuple[Stage2Net, Stage2Config]:
    """A trained model in eval mode and its configuration. Raises ValueError as load_trained."""
    model, config = load_model(path, "stage2", stage2_from, unseen)
    return model.to(device), config


def stage2_from(about: dict[str, Any], weights: dict[str, Tensor]) -> tuple[Stage2Net, Stage2Config]:
    """The model in eval mode and its configuration, from a checkpoint's `config` and `weights`.

    Models of version 1.0.0 have no embedding of MR and treat it as unknown. Raises ValueError for an unknown setting,
    RuntimeError as load_state_dict.
    """
    config = from_saved(Stage2Config, about["stage2"])
    model = Stage2Net(config.net, config.tokens.inputs, about["n_features"], about.get("n_peak_features", 0))
    name = "embed.modality.weight"
    if name in weights and len(weights[name]) == 1 + len(MODALITIES):
        weights = weights | {name: torch.cat([weights[name], weights[name][:1]])}
    model.load_state_dict(weights)
    return model.eval(), config


def views_used(features: SeriesFeatures, tta: bool) -> tuple[str, ...]:
    """With `tta` all views of the features, else the first."""
    return features.views if tta else features.views[:1]


def swap_left_right(prediction: np.ndarray, view: str) -> np.ndarray:
    """(14,) prediction of a view converted to the original: swaps left and right labels for `mirror`."""
    return prediction[list(MIRROR)] if view == "mirror" else prediction


@torch.inference_mode()
def predict_series(
    model: nn.Module, config: Stage2Config, features: SeriesFeatures, modality: str | None, plane: str | None
) -> np.ndarray:
    """(14,) probabilities in the order of LABELS, averaged over the views (config.tokens.tta).

    CT counts as CTA; modalities outside KINDS and planes outside PLANES are unknown. Raises ValueError if the features
    have another width than in training.
    """
    expected, found = model.embed.n_features, features.features.shape[-1]
    if expected != found:
        raise ValueError(f"expected {expected} features a slice, found {found}: they come from another encoder")
    device = next(model.parameters()).device
    precision = inference_precision(device)
    predictions = []
    for view in views_used(features, config.tokens.tta):
        tokens = series_tokens(features, view, modality, plane, config.tokens)
        with precision.autocast():
            logits = model({name: tensor[None].to(device) for name, tensor in tokens.items()})
        predictions.append(swap_left_right(logits[0].double().sigmoid().cpu().numpy(), view))
    return np.mean(predictions, axis=0)


def max_baseline(features: SeriesFeatures, tta: bool, of: Literal["logits", "heatmap_max"] = "logits") -> np.ndarray:
    """(14,) maximum probability of stage 1 over the slices, from logits or heatmaps (NaN without), averaged over the
    views as in predict_series."""
    views = views_used(features, tta)
    highest = {view: own.max(axis=0) for view, own in zip(features.views, getattr(features, of), strict=True)}
    predictions = [swap_left_right(1 / (1 + np.exp(-highest[view].astype(float))), view) for view in views]
    return np.mean(predictions, axis=0)
