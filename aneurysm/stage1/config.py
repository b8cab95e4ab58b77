"""What decides stage 1: input, model, losses. Kept in every checkpoint, so that later steps need no flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aneurysm.cache.config import VIEWS, InputConfig
from aneurysm.phantom.config import FIRST_SEED
from aneurysm.training.config import InferenceConfig, TrainingConfig


@dataclass(frozen=True)
class AugmentConfig:
    """Strength of each change and the chance that a sample undergoes it; a chance of 0 leaves it out."""

    affine_p: float = 0.8
    """chance of shift, scale and rotation, drawn together"""
    shift: float = 0.06
    """largest shift along rows and along columns, as a share of the image"""
    scale_low: float = 0.85
    """smallest magnification"""
    scale_high: float = 1.2
    """largest magnification"""
    rotate_degrees: float = 15.0
    """largest rotation, either way"""
    distort_p: float = 0.2
    """chance of a grid distortion"""
    distort: float = 0.15
    """largest stretch of a grid cell, as a share of its size"""
    contrast_p: float = 0.3
    """chance that brightness and contrast change"""
    brightness: float = 0.08
    """largest value added or taken away"""
    contrast: float = 0.15
    """largest change of the factor on the values"""
    gamma_p: float = 0.3
    """chance that values v become v to the power of gamma"""
    gamma_low: float = 0.7
    """smallest gamma, which brightens"""
    gamma_high: float = 1.4
    """largest gamma, which darkens"""
    blur_p: float = 0.15
    """chance of a Gaussian blur"""
    blur_sigma: float = 1.0
    """its largest standard deviation, in pixels; the smallest is half of it"""
    noise_p: float = 0.2
    """chance of Gaussian noise"""
    noise_std: float = 0.03
    """its largest standard deviation, in values of the image"""
    dropout_p: float = 0.2
    """chance of black holes in all slices"""
    dropout_holes: int = 4
    """largest number of holes"""
    dropout_size: float = 0.05
    """largest side of a hole, as a share of the image; the smallest is half of it"""


Tta = Literal["none", "mirror"]


@dataclass(frozen=True)
class ModelConfig:
    """What is built on the encoder, and its regularisation."""

    heatmap_weight: float = 1.0
    """weight of the loss of the aneurysms' map and of their locations in it; 0 leaves the head out"""
    vessel_weight: float = 0.0
    """weight of the loss of the vessel masks; 0 leaves the head out"""
    heatmap_stride: int = 4
    """input pixels per pixel of the maps: 4, 8 or 16; a ViT's patches set a lower limit"""
    neck_width: int = 64
    """channels of the feature maps below heatmaps and masks"""
    drop_rate: float = 0.2
    """dropout before the logits"""
    drop_path_rate: float = 0.0
    """stochastic depth in the encoder, where it has it"""
    freeze_stages: int = 0
    """first stages of the encoder that keep their pretrained weights: less to compute"""
    freeze_norms: bool = False
    """the encoder's batch norms keep the statistics of its pretraining: parts are then seen as whole inputs are"""
    grad_checkpointing: bool = False
    """less memory for a second forward pass; an error where the encoder cannot"""


@dataclass(frozen=True)
class SamplingConfig:
    """Which windows are trained on, and what they are told."""

    label_mm: float = 2.0
    """a window is positive for a location when its centre lies within this of the localizer, along the slice axis"""
    shift_mm: float = 1.5
    """largest random shift of a window along the slice axis; at most label_mm"""
    neighbour_range_mm: tuple[float, float] = (1.0, 3.0)
    """the neighbours' distance is drawn from this range in training"""
    crop_shift: float = 0.04
    """largest random shift of the crop, as a share of the cached image"""
    cut_size: int = 0
    """train on random parts of so many rows and columns, with a localizer where there is one; 0 takes the whole input.
    For convolutional encoders: it costs less, and they are asked about whole inputs afterwards"""
    away_p: float = 0.0
    """chance that such a part is laid anywhere, although there is a localizer: what surrounds it is no sign of one"""
    positive_repeats: int = 4
    """times that each positive spot is seen in an epoch"""
    negatives_per_series: int = 3
    """negative windows of each series in an epoch, drawn anew from its negative spots"""
    hard_p: float = 0.5
    """chance that a negative window is one of the series' hard negatives, where these are known"""
    mirror_p: float = 0.5
    """chance that left and right are exchanged"""
    phantom_share: float = 0.0
    """share of an epoch's windows that are phantoms, drawn as it goes (see pretrain.py); 0 leaves them out"""


@dataclass(frozen=True)
class LossConfig:
    """How wrong answers are counted."""

    logits: Literal["bce", "focal"] = "bce"
    """loss of the 14 logits"""
    logits_weight: float = 1.0
    """its weight; 0 trains the heatmaps alone"""
    present_weight: float = 4.0
    """weight of Aneurysm Present among the 14; the others have 1"""
    dice_weight: float = 1.0
    """weight of Dice, beside the focal loss of the map's pixels"""
    location_weight: float = 1.0
    """weight, beside these two, of telling the location where an aneurysm is"""
    disc_mm: float = 4.0
    """where only a localizer is known: diameter of the disc around it that counts as aneurysm"""
    rim_mm: float = 8.0
    """diameter up to which the rim around that disc counts as neither"""


@dataclass(frozen=True)
class Stage1Config:
    """All of it."""

    encoder: str = "convnext_base.dinov3_lvd1689m"
    """a model of timm, by name: CNN, ViT or hybrid"""
    input: InputConfig = field(default_factory=InputConfig)
    heads: ModelConfig = field(default_factory=ModelConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class ExtractSettings(InferenceConfig):
    """What is kept of a series, and how it is computed."""

    slice_spacing_mm: float = 1.5
    """distance of the slices along the series; each at most once"""
    views: tuple[str, ...] = VIEWS
    """the image as it is (original) and with left and right exchanged (mirror)"""


@dataclass(frozen=True)
class PretrainingConfig:
    """What pretraining draws, and what it is evaluated on meanwhile."""

    seed: int = FIRST_SEED
    """of the phantoms"""
    mining_weights: Path | None = None
    """weights of pretrain.py that choose what phantoms.mined_of asks for: windows with their highest false peaks"""
    every: int = 3000
    """about so many windows from one epoch of history.csv, and one resume.pth, to the next"""
    check_dirs: tuple[Path, ...] = ()
    """folders of phantoms, ready for stage 1, on which the network is evaluated every training.evaluate_every epochs"""
    check_folds: int = 2
    """number of folds that create_folds.py was told there"""
    check_mm: float = 4.0
    """distance of their slices that are asked about"""
