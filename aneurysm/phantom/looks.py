"""Intensity augmentation of synthetic images: effects of scanners, windowing and file formats, each with a strength.

Images are (rows, columns, slices) float32 in [0, 1], before and after. Nothing moves, so targets stay valid.
Strength 0 changes nothing (except `quantise`: 8 bits); 1 is the most that a reader would still accept.
`change_look` combines several of them for training.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from aneurysm.phantom.config import LooksConfig

Rng = np.random.Generator
Change = Callable[[np.ndarray, float, Rng], np.ndarray]


def change_look(image: np.ndarray, looks: LooksConfig, rng: Rng) -> np.ndarray:
    """The image with randomly drawn changes."""
    if rng.random() >= looks.share:
        return image
    for change in CHANGES.values():
        if rng.random() < looks.each:
            image = changed(image, change, rng.uniform(0, looks.strength), rng)
    return image


def changed(image: np.ndarray, change: Change, strength: float, rng: Rng) -> np.ndarray:
    """The image after one change, contiguous."""
    return np.clip(np.ascontiguousarray(change(image, strength, rng), np.float32), 0, 1)


def gamma(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Raises values to a power from 1 / 1.8 to 1.8."""
    return image ** np.float32(1.8 ** (strength * _sign(rng)))


def window(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Another intensity window: dark values lost, bright ones saturated, or the whole range pale."""
    low, high = rng.uniform(-0.15, 0.15) * strength, 1 + rng.uniform(-0.35, 0.5) * strength
    return (image - low) / (high - low)


def bias(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """The uneven gain of a receive coil: a smooth factor between 1 / 2 and 2."""
    field = _smooth(image.shape[:2], 3, rng)
    return image * np.exp(np.float32(np.log(2) * strength) * field / np.abs(field).max())[..., None]


def noise(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """White noise: Gaussian, or Rician as in the magnitude of MR. SD up to 0.08."""
    sd = np.float32(0.08 * strength)
    noisy = image + sd * rng.standard_normal(image.shape, np.float32)
    return np.hypot(noisy, sd * rng.standard_normal(image.shape, np.float32)) if rng.random() < 0.5 else noisy


def grain(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Spatially correlated noise, as after a soft CT kernel or interpolation. SD up to 0.07."""
    own = cv2.GaussianBlur(rng.standard_normal(image.shape, np.float32), (0, 0), rng.uniform(0.7, 2.0))
    return image + np.float32(0.07 * strength) * own.reshape(image.shape) / own.std()


def blur(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """A soft kernel, or motion along one axis: Gaussian of up to 1.6 pixels."""
    widest = 1.6 * strength + 1e-3
    across, along = (widest, 1e-3) if rng.random() < 0.3 else (widest, widest)
    if rng.random() < 0.5:
        across, along = along, across
    return cv2.GaussianBlur(image, (0, 0), across, sigmaY=along).reshape(image.shape)


def sharpen(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """A sharp kernel, with overshoot at edges."""
    soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0)).reshape(image.shape)
    return image + np.float32(1.5 * strength) * (image - soft)


def coarse(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """A matrix up to 2.5 times coarser, in one or both directions, interpolated back as scanners do."""
    rows, columns, slices = image.shape
    factors = 1 + 1.5 * strength * np.array([(1, 1), (1, 0), (0, 1)][rng.integers(3)])
    size = tuple(int(max(8, round(n / f))) for n, f in zip((columns, rows), factors, strict=True))
    back = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[rng.integers(3)]
    return np.dstack(
        [cv2.resize(cv2.resize(image[..., k], size, interpolation=cv2.INTER_AREA), (columns, rows), interpolation=back)
         for k in range(slices)]
    )  # fmt: skip


def quantise(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Few grey levels, down to 16, as in an 8-bit file with a wide window."""
    levels = np.float32(2 ** max(1, 8 - 4 * strength) - 1)
    return np.rint(image * levels) / levels


def ghosts(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Ghosts along the phase direction, of bright pulsating structures or of the whole image."""
    axis, n = int(rng.integers(2)), image.shape[0]
    shift = int(n * rng.uniform(0.08, 0.5))
    source = np.maximum(image - np.float32(0.6), 0) * 2 if rng.random() < 0.6 else image
    copies = np.roll(source, shift, axis) + np.roll(source, -shift, axis)
    return image + np.float32(0.25 * strength * _sign(rng)) * copies


def streaks(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Bright and dark streaks from metal (clip, coil, teeth), which may lie outside the image."""
    rows, columns, slices = image.shape
    y, x = np.ogrid[:rows, :columns]
    dy, dx = y - rng.uniform(-0.2, 1.2) * rows, x - rng.uniform(-0.2, 1.2) * columns
    angle, away = np.arctan2(dy, dx).astype(np.float32), np.hypot(dy, dx).astype(np.float32)
    rays = sum(
        rng.uniform(-1, 1) * np.cos(angle * np.float32(rng.integers(4, 40)) + np.float32(rng.uniform(0, 6.3)))
        for _ in range(6)
    )
    rays *= np.float32(0.25 * strength) / (1 + away / np.float32(rng.uniform(0.1, 0.5) * rows))
    within = np.exp(-((np.arange(slices) - rng.uniform(0, slices)) ** 2) / (2 * rng.uniform(0.7, 3.0) ** 2))
    metal = (away < rng.uniform(0, 5) * strength)[..., None] * within
    return np.maximum(image + rays[..., None] * within.astype(np.float32), metal.astype(np.float32))


def uneven_slices(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """Slices that differ in brightness by up to a quarter, as in interleaved acquisitions."""
    return image * np.exp(rng.uniform(-0.22, 0.22, image.shape[2]) * strength).astype(np.float32)


def small_field(image: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """A field of view that ends inside the image, at a circle or a straight edge, with zeros beyond."""
    rows, columns = image.shape[:2]
    y, x = np.ogrid[:rows, :columns]
    y, x = y / rows - 0.5, x / columns - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    away = np.hypot(y, x) if rng.random() < 0.5 else y * np.sin(angle) + x * np.cos(angle)
    beyond = away > 0.71 - 0.25 * strength
    return np.where(beyond[..., None], np.float32(0), image)


CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (
        coarse, blur, sharpen, ghosts, streaks, bias, uneven_slices, gamma, window, noise, grain, quantise, small_field,
    )
}  # fmt: skip
"""All changes by name, in the order in which they are applied."""


def _sign(rng: Rng) -> float:
    """Between -1 and 1, more often near the ends."""
    return float(rng.choice([-1, 1]) * np.sqrt(rng.random()))


def _smooth(shape: tuple[int, int], knots: int, rng: Rng) -> np.ndarray:
    """A smooth random float32 field of this shape."""
    coarse_field = rng.standard_normal((knots, knots)).astype(np.float32)
    return cv2.resize(coarse_field, shape[::-1], interpolation=cv2.INTER_CUBIC)
