"""Tokens of stage 2: one per slice, with its depth in millimetres; and batches of series.

A batch, or one series without the first axis, is a dict of tensors:

    depth_mm  (batch, slices) float32 mm from the last slice (axial: the uppermost); at least 0 without augmentation
    features  (batch, slices, n_features) float32      these five only if in TokensConfig.inputs
    peak_features (batch, slices, n_peak_features) float32
    logits    (batch, slices, 14) float32
    heatmap_max  (batch, slices, 14) float32, may be NaN
    peaks     (batch, slices, 28) float32, may be NaN  x of the 14 maps, then y
    mask      (batch, slices) bool, False for padding
    modality  (batch,) int64 index in KINDS + 1; 0 is unknown
    plane     (batch,) int64 index in PLANES + 1; 0 is unknown

and, in training, labels (batch, 14) and slice_labels (batch, slices, 14) float32, NaN where unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from aneurysm.cache.features import SeriesFeatures
from aneurysm.dicom.geometry import CANONICAL, left_right_in_columns
from aneurysm.labels import MODALITIES
from aneurysm.stage2.config import TokensConfig

PLANES = tuple(CANONICAL)
KINDS = (*MODALITIES, "MR")  # MR: sequence unknown
PER_SLICE = ("depth_mm", "features", "peak_features", "logits", "heatmap_max", "peaks", "mask", "slice_labels")
LOGIT_LIMIT = 20.0  # logits and heatmap_max are clipped to +- this


def check_tokens(config: TokensConfig) -> None:
    """Raises ValueError without inputs, or if `cross_fitted` is combined with features or peak_features."""
    if not config.inputs:
        raise ValueError(
            "tokens.inputs: expected at least one of features, peak_features, logits, heatmap_max, peaks, found none"
        )
    for name in ("features", "peak_features") if config.cross_fitted else ():
        if name in config.inputs:
            raise ValueError(
                f"tokens.cross_fitted: {name} of different encoders means different things; "
                f"expected inputs of logits, heatmap_max and peaks alone, found {name}"
            )


def series_tokens(
    features: SeriesFeatures, view: str, modality: str | None, plane: str | None, config: TokensConfig
) -> dict[str, Tensor]:
    """The tokens of one view, at most `max_slices`; modalities outside KINDS and planes outside PLANES are unknown."""
    number = features.views.index(view)
    kept = thinned(len(features.slice), config.max_slices)
    depth_mm = features.depth_mm
    if view == "mirror" and plane in PLANES and not left_right_in_columns(plane):
        depth_mm = depth_mm.max() + depth_mm.min() - depth_mm  # mirroring reverses the slice order
    arrays = {"depth_mm": depth_mm, **{name: _part(features, name, number) for name in config.inputs}}
    tokens = {name: torch.from_numpy(array[kept].astype(np.float32)) for name, array in arrays.items()}
    tokens["mask"] = torch.ones(len(kept), dtype=torch.bool)
    tokens["modality"] = torch.tensor(modality_index(modality))
    tokens["plane"] = torch.tensor(PLANES.index(plane) + 1 if plane in PLANES else 0)
    return tokens


def modality_index(modality: str | None) -> int:
    """Index in KINDS + 1, 0 for unknown; CT counts as CTA, since all CT of the competition is."""
    modality = "CTA" if modality == "CT" else modality
    return KINDS.index(modality) + 1 if modality in KINDS else 0


def header_modality(modality: str | None) -> str | None:
    """The modality in a header without descriptions, as in the competition: CT for CTA, MR for the others."""
    return {"CTA": "CT", **dict.fromkeys(MODALITIES[1:], "MR")}.get(modality, modality)


def _part(features: SeriesFeatures, name: str, view: int) -> np.ndarray:
    """(slices, n) of one view, logits clipped to LOGIT_LIMIT; NaN in heatmap_max and peaks means no heatmaps."""
    if name in ("features", "peak_features"):
        return getattr(features, name)[view]
    if name == "peaks":
        return np.concatenate([features.peak_x[view], features.peak_y[view]], axis=1)
    if name == "logits":
        return np.nan_to_num(features.logits[view]).clip(-LOGIT_LIMIT, LOGIT_LIMIT)
    return features.heatmap_max[view].clip(-LOGIT_LIMIT, LOGIT_LIMIT)


def thinned(n_slices: int, max_slices: int) -> np.ndarray:
    """Indices of at most `max_slices` slices, evenly spaced from first to last."""
    if n_slices <= max_slices:
        return np.arange(n_slices)
    return np.linspace(0, n_slices - 1, max_slices).round().astype(int)


def pad_batch(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A batch of series, zero-padded to the longest; the mask is False in the padding."""
    return {
        name: pad_sequence([item[name] for item in items], batch_first=True)
        if name in PER_SLICE
        else torch.stack([item[name] for item in items])
        for name in items[0]
    }
