"""Samples of stage 1 to try changes on, and what tests measure in them."""

from dataclasses import replace

import cv2
import numpy as np

from aneurysm.stage1.config import AugmentConfig
from aneurysm.stage1.sample import Sample
from aneurysm.stage1.transforms import augment, make_pipeline

SIZE = 128
CHANCES = ("affine_p", "distort_p", "contrast_p", "gamma_p", "blur_p", "noise_p", "dropout_p")
NOTHING = AugmentConfig(**dict.fromkeys(CHANCES, 0.0))
EVERYTHING = AugmentConfig(**dict.fromkeys(CHANCES, 1.0))


def only(chance: str, **settings) -> AugmentConfig:
    """One change for certain and no other."""
    return replace(NOTHING, **{chance: 1.0}, **settings)


def sample_of(image: np.ndarray) -> Sample:
    points = np.array([[40.25, 30.5], [90, 101]], np.float32)
    vessels = np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2]) % 14
    return Sample(image, points, np.array([4, 12]), vessels.astype(np.uint8))


def textured() -> Sample:
    image = np.random.default_rng(5).random((SIZE, SIZE, 3), dtype=np.float32)
    image = cv2.GaussianBlur(image, (0, 0), 3)
    return sample_of(cv2.normalize(image, None, 0, 1, cv2.NORM_MINMAX))


def changed_image(image: np.ndarray, config: AugmentConfig, seed: int) -> np.ndarray:
    return augment(sample_of(image), make_pipeline(config), seed).image


def dots(points: np.ndarray) -> np.ndarray:
    """One round dot (Gaussian, sigma 1.5 pixels) in each channel, at three points (3, 2)."""
    rows, columns = np.indices((SIZE, SIZE))[..., None]
    squared = (columns - points[:, 0]) ** 2 + (rows - points[:, 1]) ** 2
    return np.exp(-squared / (2 * 1.5**2)).astype(np.float32)


def centroids(image: np.ndarray) -> np.ndarray:
    """(channels, 2) x and y of the dot in each channel."""
    rows, columns = np.indices(image.shape[:2])[..., None]
    mass = image.sum(axis=(0, 1))
    return np.stack([(image * columns).sum(axis=(0, 1)) / mass, (image * rows).sum(axis=(0, 1)) / mass], axis=1)


def equal(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))
