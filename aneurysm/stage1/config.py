"""Settings of stage 1: input, model, losses; saved in every checkpoint, from which later steps read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aneurysm.cache.config import VIEWS, InputConfig
from aneurysm.phantom.config import FIRST_SEED
from aneurysm.training.config import InferenceConfig, TrainingConfig


@dataclass(frozen=True)
class AugmentConfig:
    """Strength and probability of each augmentation; a probability of 0 turns it off."""

    affine_p: float = 0.8
    """probability of an affine transform: shift, scale and rotation"""
    shift: float = 0.06
    """maximum shift along rows and columns, as a fraction of the image"""
    scale_low: float = 0.85
    """minimum scale"""
    scale_high: float = 1.2
    """maximum scale"""
    rotate_degrees: float = 15.0
    """maximum rotation, either way"""
    distort_p: float = 0.2
    """probability of a grid distortion"""
    distort: float = 0.15
    """maximum stretch of a grid cell, as a fraction of its size"""
    contrast_p: float = 0.3
    """probability of a brightness and contrast change"""
    brightness: float = 0.08
    """maximum brightness change"""
    contrast: float = 0.15
    """maximum contrast change"""
    gamma_p: float = 0.3
    """probability of a gamma change"""
    gamma_low: float = 0.7
    """minimum gamma, which brightens"""
    gamma_high: float = 1.4
    """maximum gamma, which darkens"""
    blur_p: float = 0.15
    """probability of a Gaussian blur"""
    blur_sigma: float = 1.0
    """maximum standard deviation of the blur, in pixels; the minimum is half of it"""
    noise_p: float = 0.2
    """probability of Gaussian noise"""
    noise_std: float = 0.03
    """maximum standard deviation of the noise, in image values"""
    dropout_p: float = 0.2
    """probability of cutout: black rectangles in all slices"""
    dropout_holes: int = 4
    """maximum number of rectangles"""
    dropout_size: float = 0.05
    """maximum side of a rectangle, as a fraction of the image; the minimum is half of it"""


Tta = Literal["none", "mirror"]


@dataclass(frozen=True)
class ModelConfig:
    """Heads of the model, regularisation, and frozen parts."""

    heatmap_weight: float = 1.0
    """loss weight of the aneurysm map and the location maps; 0 leaves out their head"""
    vessel_weight: float = 0.0
    """loss weight of the vessel masks; 0 leaves out their head"""
    heatmap_stride: int = 4
    """input pixels per pixel of the maps: 4, 8 or 16; a ViT's patches set a lower limit"""
    neck_width: int = 64
    """channels of the feature maps from which heatmaps and masks are computed"""
    drop_rate: float = 0.2
    """dropout before the logits"""
    drop_path_rate: float = 0.0
    """stochastic depth, in encoders that support it"""
    freeze_stages: int = 0
    """number of encoder stages to freeze, from the first on; saves computation"""
    freeze_norms: bool = False
    """freeze the encoder's batch norm statistics, so that crops and whole inputs are normalised alike"""
    grad_checkpointing: bool = False
    """save memory by a second forward pass; an error if the encoder does not support it"""


@dataclass(frozen=True)
class SamplingConfig:
    """Selection and labels of the training windows."""

    label_mm: float = 2.0
    """a window is positive if its central slice lies within this distance of the localizer"""
    shift_mm: float = 1.5
    """maximum random shift of a window along the slice axis; at most label_mm"""
    neighbour_range_mm: tuple[float, float] = (1.0, 3.0)
    """range of the distance between neighbouring slices in training"""
    crop_shift: float = 0.04
    """maximum random shift of the crop, as a fraction of the cached image"""
    cut_size: int = 0
    """train on random crops of this size, around a localizer if there is one; 0 uses the whole input. For convolutional
    encoders: costs less, and prediction still uses whole inputs"""
    away_p: float = 0.0
    """probability that such a crop ignores the localizer, so that surroundings do not give it away"""
    positive_repeats: int = 4
    """how often each positive spot is used per epoch"""
    negatives_per_series: int = 3
    """negative windows per series and epoch, drawn from its negative spots"""
    hard_p: float = 0.5
    """probability that a negative window is a hard negative of the series, if these are known"""
    mirror_p: float = 0.5
    """probability of a left-right flip, which also swaps left and right labels"""
    phantom_share: float = 0.0
    """fraction of an epoch's windows that are newly drawn phantoms (see pretrain.py); 0 for none"""


@dataclass(frozen=True)
class LossConfig:
    """Losses and their weights."""

    logits: Literal["bce", "focal"] = "bce"
    """loss of the 14 logits"""
    logits_weight: float = 1.0
    """its weight; 0 trains the heatmaps only"""
    present_weight: float = 4.0
    """weight of Aneurysm Present among the 14 labels; the others have 1"""
    dice_weight: float = 1.0
    """weight of the Dice loss of the aneurysm map, relative to its focal loss"""
    location_weight: float = 1.0
    """weight of the location loss at aneurysm pixels, relative to these two"""
    disc_mm: float = 4.0
    """without a mask: diameter of the disc around the localizer that counts as aneurysm"""
    rim_mm: float = 8.0
    """outer diameter of the ring around that disc that is ignored"""


@dataclass(frozen=True)
class Stage1Config:
    """All settings of stage 1."""

    encoder: str = "convnext_base.dinov3_lvd1689m"
    """name of a timm model: CNN, ViT or hybrid"""
    input: InputConfig = field(default_factory=InputConfig)
    heads: ModelConfig = field(default_factory=ModelConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class ExtractSettings(InferenceConfig):
    """Settings of feature extraction."""

    slice_spacing_mm: float = 1.5
    """distance between sampled slices; no slice is used twice"""
    views: tuple[str, ...] = VIEWS
    """original images and their mirror images"""


@dataclass(frozen=True)
class PretrainingConfig:
    """Phantoms for pretraining, and evaluation during it."""

    seed: int = FIRST_SEED
    """random seed of the phantoms"""
    mining_weights: Path | None = None
    """weights of pretrain.py for hard negative mining: they choose the hardest of phantoms.mined_of windows"""
    every: int = 3000
    """windows per epoch, approximately; history.csv and resume.pth are written once per epoch"""
    check_dirs: tuple[Path, ...] = ()
    """folders of phantoms, preprocessed and with folds, to evaluate on every training.evaluate_every epochs"""
    check_folds: int = 2
    """number of folds in these folders, as given to create_folds.py"""
    check_mm: float = 4.0
    """distance between the slices of these series that are evaluated"""
