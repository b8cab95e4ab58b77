"""Augmentation of training samples with albumentations; image, localizers and vessel mask are transformed together."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from aneurysm.stage1.config import AugmentConfig
from aneurysm.stage1.sample import Sample

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import checks PyPI for a newer version
import albumentations as A

GRID_STEPS = 4  # cells of the distortion along each side


class GridDistortion(A.GridDistortion):
    """Moves points exactly; the library rounds them to pixels and may lose one of two that are close together."""

    def apply_to_keypoints(self, keypoints: np.ndarray, map_x: np.ndarray, map_y: np.ndarray, **_) -> np.ndarray:
        moved = keypoints.copy()
        moved[:, 0] = _where_seen(keypoints[:, 0], map_x[0])
        moved[:, 1] = _where_seen(keypoints[:, 1], map_y[:, 0])
        return moved


class BrightnessContrast(A.RandomBrightnessContrast):
    """Computes in float32; the library converts to float64, which takes ten times as long."""

    def apply(self, img: np.ndarray, alpha: float, beta: float, **_) -> np.ndarray:
        return np.clip(img * np.float32(alpha) + np.float32(beta), 0, 1)


def make_pipeline(config: AugmentConfig) -> A.Compose:
    """The transforms for `augment`: geometry first, cutout last, so that holes stay black.

    Raises UserWarning for an argument that albumentations does not know, ValueError for one out of range.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the library only warns of unknown arguments
        steps = [*_geometry(config), *_intensity(config)]
        # Points outside are dropped in `augment`: the library rejects x = -0.4 and drops points in holes.
        return A.Compose(steps, keypoint_params=A.KeypointParams(format="xy", remove_invisible=False))


def augment(sample: Sample, pipeline: A.Compose, seed: int | Sequence[int]) -> Sample:
    """The augmented sample, a function of `sample` and `seed` only; `sample` is not modified.

    The image stays float32 in [0, 1] and contiguous, with 0 outside the original. Points that leave the image are
    dropped, and their labels with them. `seed` is one or more non-negative integers.
    """
    rng = np.random.default_rng(seed)
    # Not set_random_seed: it gives all transforms the same random numbers.
    pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    masks = {} if sample.vessels is None else {"mask": sample.vessels}
    changed = pipeline(image=sample.image, keypoints=sample.points, **masks)
    rows, columns = sample.image.shape[:2]
    points = changed["keypoints"].astype(np.float32)
    inside = ((points >= -0.5) & (points < (columns - 0.5, rows - 0.5))).all(axis=1)
    return replace(
        sample,
        image=np.ascontiguousarray(np.clip(changed["image"], 0, 1), dtype=np.float32),
        points=points[inside],
        point_locations=sample.point_locations[inside],
        vessels=changed.get("mask"),
    )


def _geometry(config: AugmentConfig) -> list[A.DualTransform]:
    affine = A.Affine(
        translate_percent=(-config.shift, config.shift),
        scale=(config.scale_low, config.scale_high),
        keep_ratio=True,  # else x and y are scaled independently
        rotate=(-config.rotate_degrees, config.rotate_degrees),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_CONSTANT,
        fill=0,
        fill_mask=0,
        p=config.affine_p,
    )
    distort = GridDistortion(
        num_steps=GRID_STEPS,
        distort_limit=(-config.distort, config.distort),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_CONSTANT,
        fill=0,
        fill_mask=0,
        p=config.distort_p,
    )
    return [affine, distort]


def _intensity(config: AugmentConfig) -> list[A.BasicTransform]:
    hole = (config.dropout_size / 2, config.dropout_size)
    return [
        BrightnessContrast(
            brightness_limit=(-config.brightness, config.brightness),
            contrast_limit=(-config.contrast, config.contrast),
            p=config.contrast_p,
        ),
        A.RandomGamma(gamma_limit=(100 * config.gamma_low, 100 * config.gamma_high), p=config.gamma_p),
        A.GaussianBlur(blur_limit=0, sigma_limit=(config.blur_sigma / 2, config.blur_sigma), p=config.blur_p),
        A.GaussNoise(std_range=(0, config.noise_std), p=config.noise_p),
        A.CoarseDropout(
            num_holes_range=(1, config.dropout_holes),
            hole_height_range=hole,
            hole_width_range=hole,
            fill=0,
            p=config.dropout_p,
        ),
    ]


def _where_seen(source: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Pixels that show the source positions, if pixel i shows position seen[i]; shifted in parallel beyond the ends."""
    return np.interp(source, seen, np.arange(len(seen))) + source - source.clip(seen[0], seen[-1])
