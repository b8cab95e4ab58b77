"""How strongly training samples are changed: apart from augment.py, so that no reader of it needs albumentations."""

from __future__ import annotations

from dataclasses import dataclass


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
