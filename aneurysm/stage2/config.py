"""What decides stage 2: what it sees of a series, model, jitter, loss. Kept in every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aneurysm.training.config import TrainingConfig

Input = Literal["features", "peak_features", "logits", "heatmap_max", "peaks"]
Pooling = Literal["gem", "mean", "max", "cls"]


@dataclass(frozen=True)
class TokensConfig:
    """What the model sees of a series; a token is a slice."""

    inputs: tuple[Input, ...] = ("logits", "heatmap_max", "peaks")
    """outputs of stage 1 for a slice: features (pooled), peak_features (of the map's highest pixel), logits,
    heatmap_max (highest value of each heatmap), peaks (where)"""
    cross_fitted: bool = True
    """train on what stage 1 says about each series without having seen it, from the folder of the series' own fold;
    without features and peak_features, which differ from one encoder to another. false: on what the encoder of the
    held-out fold says, which has been trained on these series and is surer of them than it will be of any other"""
    max_slices: int = 2048
    """longer series are thinned evenly to this"""
    tta: bool = True
    """answer with the mean over the views (original, mirrored) that are there"""


@dataclass(frozen=True)
class NetConfig:
    """The transformer."""

    width: int = 1024
    """numbers per token"""
    depth: int = 3
    """layers"""
    heads: int = 16
    """attention heads, each with a reach of its own in millimetres"""
    pooling: tuple[Pooling, ...] = ("gem", "mean", "max", "cls")
    """how the tokens become one: any of gem, mean, max, cls, put side by side; with none, the answer about a series is
    made from what is said of its slices alone, for which a few hundred series suffice"""
    dropout: float = 0.2
    """of what each layer adds, and before the answer"""
    input_dropout: float = 0.2
    """chance that a feature of the encoder is left out, on all slices of a series at once"""
    max_baseline: bool = True
    """add a few weights times the maxima over the slices, so that training starts from these"""


@dataclass(frozen=True)
class JitterConfig:
    """How a series is changed each time that it is trained on."""

    mirror_p: float = 0.5
    """chance that left and right are exchanged, where the mirrored view is there"""
    thin_to_mm: float = 4.0
    """every second, third, ... slice only, from a random first one on, as long as they stay this near to each other"""
    drop_p: float = 0.1
    """chance that a slice is left out"""
    stretch: float = 0.05
    """largest change of all distances along the slice axis, as a share of them"""
    shift_mm: float = 5.0
    """largest shift of all slices along the slice axis"""
    feature_noise: float = 0.1
    """standard deviation of noise on features and peak_features, as a share of their own"""
    logit_noise: float = 0.2
    """standard deviation of noise on logits and heatmap_max"""
    unknown_p: float = 0.1
    """chance that the modality, and apart from it the plane, is not told"""
    header_modality_p: float = 0.5
    """chance that the modality is told as by a header without descriptions, which is all that hidden series of the
    competition have: a CTA stays a CTA, all else is an MR; 0 always tells train.csv's"""


@dataclass(frozen=True)
class LossConfig:
    """How wrong answers are counted."""

    present_share: float = 0.5
    """share of Aneurysm Present in the loss, the other labels alike; 0.5 is that of the competition's score"""
    pos_weight_cap: float = 1.0
    """positives of a label count as much as its negatives, but at most this many times; 1 counts all series alike"""
    slice_weight: float = 1.0
    """weight, beside the loss of the series, of telling the slices with an aneurysm from the others; 0, or
    net.max_baseline false, leaves it out"""
    slice_mm: float = 3.0
    """a slice within this of a localizer, along the slice axis, shows it"""
    clear_mm: float = 12.0
    """a slice farther than this from every localizer shows none; those in between are not asked about"""


@dataclass(frozen=True)
class Stage2Config:
    """All of it."""

    tokens: TokensConfig = field(default_factory=TokensConfig)
    net: NetConfig = field(default_factory=NetConfig)
    jitter: JitterConfig = field(default_factory=JitterConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
