"""Settings of stage 2: inputs, model, augmentation, loss; saved in every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aneurysm.training.config import TrainingConfig

Input = Literal["features", "peak_features", "logits", "heatmap_max", "peaks"]
Pooling = Literal["gem", "mean", "max", "cls"]


@dataclass(frozen=True)
class TokensConfig:
    """Inputs of the model; a token is a slice."""

    inputs: tuple[Input, ...] = ("logits", "heatmap_max", "peaks")
    """outputs of stage 1 for a slice: features (pooled), peak_features (at the highest pixel of the aneurysm map),
    logits, heatmap_max (maximum of each heatmap), peaks (place of that maximum)"""
    cross_fitted: bool = True
    """train on outputs of the encoder that did not see the series (that of its own fold); excludes features and
    peak_features, which differ between encoders. false: train on outputs of the held-out fold's encoder, which was
    trained on these series and is more confident on them than on new ones"""
    max_slices: int = 2048
    """maximum number of slices; longer series are subsampled evenly"""
    tta: bool = True
    """average over the available views (original, mirror)"""


@dataclass(frozen=True)
class NetConfig:
    """The transformer."""

    width: int = 1024
    """embedding dimension"""
    depth: int = 3
    """number of layers"""
    heads: int = 16
    """attention heads; each has its own range in millimetres"""
    pooling: tuple[Pooling, ...] = ("gem", "mean", "max", "cls")
    """pooling over tokens: any of gem, mean, max, cls, concatenated; with none, the series is predicted from the scores
    of its slices only, for which a few hundred series suffice"""
    dropout: float = 0.2
    """dropout in each layer and before the output"""
    input_dropout: float = 0.2
    """probability of dropping an encoder feature, in all slices of a series at once"""
    max_baseline: bool = True
    """add the weighted maxima over the slices to the output, so that training starts from this baseline"""


@dataclass(frozen=True)
class JitterConfig:
    """Augmentation of the tokens of a series."""

    mirror_p: float = 0.5
    """probability of using the mirrored view, if it was extracted"""
    thin_to_mm: float = 4.0
    """subsample to every second, third, ... slice, up to this slice distance"""
    drop_p: float = 0.1
    """probability of dropping a slice"""
    stretch: float = 0.05
    """maximum relative change of all distances along the slice axis"""
    shift_mm: float = 5.0
    """maximum shift of all slices along the slice axis"""
    feature_noise: float = 0.1
    """noise on features and peak_features, relative to their standard deviation"""
    logit_noise: float = 0.2
    """standard deviation of the noise on logits and heatmap_max"""
    unknown_p: float = 0.1
    """probability of hiding the modality, and independently the plane"""
    header_modality_p: float = 0.5
    """probability of giving the modality as a header without descriptions does, like the hidden series of the
    competition: CTA, or MR for everything else; 0 always gives that of train.csv"""


@dataclass(frozen=True)
class LossConfig:
    """Losses and their weights."""

    present_share: float = 0.5
    """fraction of the loss for Aneurysm Present, the other labels share the rest; 0.5 as in the competition's score"""
    pos_weight_cap: float = 1.0
    """maximum weight of positives, which balances positives and negatives of a label; 1 weights all series equally"""
    slice_weight: float = 1.0
    """weight of the slice classification loss, relative to the series loss; 0, or net.max_baseline false, turns it
    off"""
    slice_mm: float = 3.0
    """a slice is positive within this distance of a localizer"""
    clear_mm: float = 12.0
    """a slice is negative beyond this distance from every localizer; slices in between are ignored"""


@dataclass(frozen=True)
class Stage2Config:
    """All settings of stage 2."""

    tokens: TokensConfig = field(default_factory=TokensConfig)
    net: NetConfig = field(default_factory=NetConfig)
    jitter: JitterConfig = field(default_factory=JitterConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
