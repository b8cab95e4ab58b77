"""Light augmentation of training volumes in small functions; volumes are (slices, rows, columns) float32."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform

from aneurysm.labels import MIRROR
from volume3d.config import AugmentConfig
from volume3d.crop import cut


def mirrored(volume: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The volume and its labels (14,) with left and right swapped; columns run to the patient's left."""
    return np.ascontiguousarray(volume[:, :, ::-1]), labels[list(MIRROR)]


def contrasted(volume: np.ndarray, gain: float, offset: float, gamma: float) -> np.ndarray:
    """volume^gamma * gain + offset, clipped to [0, 1]; `volume` is clipped to [0, 1] first."""
    return np.clip(np.clip(volume, 0, 1) ** np.float32(gamma) * np.float32(gain) + np.float32(offset), 0, 1)


def recontrasted(volume: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """`contrasted` with random gain, offset and gamma."""
    gain, offset, gamma = rng.uniform(-1, 1, 3) * (config.gain, config.offset, config.gamma)
    return contrasted(volume, 1 + gain, offset, np.exp(gamma))


def turned(
    volume: np.ndarray, centre: np.ndarray, shape: tuple[int, int, int], degrees: float, scale: float
) -> np.ndarray:
    """A box of `shape` around `centre` (slice, row, column) of a volume that is rotated and scaled about that point.

    `degrees` rotate about the vertical axis, from the front to the patient's left; a `scale` of 1.1 enlarges everything
    by 1.1 along all axes. Linear interpolation; 0 outside the volume.
    """
    angle = np.deg2rad(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    to_volume = turn.T / scale  # maps offsets from the box's middle to offsets from `centre` in the volume
    around = tuple(int(np.ceil(n * 1.5 / scale)) + 4 for n in shape)  # contains the rotated box
    middle = np.round(centre)
    box = cut(volume, middle, tuple(n + 1 - n % 2 for n in around))
    origin = (np.array(box.shape) - 1) / 2 + centre - middle
    offset = origin - to_volume @ ((np.array(shape) - 1) / 2)
    return affine_transform(box, to_volume, offset, shape, np.float32, order=1, mode="constant", cval=0.0)


def augmented(
    volume: np.ndarray,
    labels: np.ndarray,
    centre: np.ndarray,
    shape: tuple[int, int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A randomly augmented box of `shape` float32 around `centre` of a volume, and its labels."""
    degrees, grown = rng.uniform(-1, 1, 2) * (config.rotate_degrees, config.scale)
    gain, offset, gamma = rng.uniform(-1, 1, 3) * (config.gain, config.offset, config.gamma)
    if rng.random() < config.affine_p:
        box = turned(volume, centre, shape, degrees, 1 + grown)
    else:
        box = cut(volume, centre, shape)
    box = contrasted(box, 1 + gain, offset, np.exp(gamma))
    return mirrored(box, labels) if rng.random() < config.mirror_p else (box, labels)
