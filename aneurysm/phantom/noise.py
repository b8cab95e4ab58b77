"""Scanner artefacts (blur, bias field, noise, motion, ghosts), for each slice independent of what else is rendered."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import cv2
import numpy as np

from aneurysm.phantom.contrast import Contrast
from aneurysm.phantom.grid import Grid

BANK_MARGIN = 509  # pixels by which the noise bank exceeds a slice's longer side
GAIN_KNOTS = 9  # of the bias field, along each side of a slice
Pixels = tuple[slice, slice]  # rows and columns, with start and stop
Ghost = Callable[[int, Pixels, int], np.ndarray] | None  # (slice, pixels, shift in rows) -> ghost image of these pixels


def moved_while_scanned(image: np.ndarray, columns: float) -> np.ndarray:
    """Mean of a slice and a copy shifted by `columns` (fractions allowed)."""
    shift = np.array([[1, 0, columns], [0, 1, 0]], np.float32)
    moved = cv2.warpAffine(image, shift, image.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return 0.5 * (image + moved)


class Noise:
    """The artefacts of one scan.

    rest: radius in mm of the CT head rest, or None without one.
    """

    def __init__(self, rng: np.random.Generator, modality: str, grid: Grid):
        self.ct, self.grid = modality == "CTA", grid
        self.seed = int(rng.integers(2**32))
        self.pixel_mm = float(np.sqrt(np.linalg.norm(grid.row_step) * np.linalg.norm(grid.col_step)))
        self.rest = float(rng.uniform(118, 130)) if self.ct and rng.random() < 0.5 else None
        self.draw(rng)
        self.grains = self.bank(rng)

    def draw(self, rng: np.random.Generator) -> None:
        """Draws the parameters of noise grain, motion, ghosts and bias field."""
        self.grain_mm = rng.uniform(0.3, 0.55)
        self.motion_mm = rng.uniform(0.4, 1.2) if rng.random() < 0.15 else 0.0
        self.ghost = rng.uniform(0.01, 0.05) if rng.random() < 0.3 else 0.0
        self.ghost_shift = int(rng.integers(20, 120))
        self.bias_waves = rng.uniform(-1, 1, (4, 3)), rng.uniform(0, 2 * np.pi, 4), rng.standard_normal(4)

    def margin(self, contrast: Contrast) -> int:
        """Margin in pixels around a part of a slice that blur and motion need."""
        sigma, moved = contrast.blur_mm / self.pixel_mm, self.motion_mm / self.pixel_mm
        return int(np.ceil(4 * sigma if sigma > 0.3 else 0) + np.ceil(moved) + 1)

    def apply(
        self, image: np.ndarray, number: int, contrast: Contrast, pixels: Pixels, inside: Pixels, ghost: Ghost = None
    ) -> np.ndarray:
        """float32 (rows, cols): `pixels` of slice `number`, with artefacts; `inside` indexes them in `image`.

        Noise is Gaussian in CT, Rician in MR. `ghost` returns pixels of the shifted slice; needed if `pixels` are only
        a part of it.
        """
        rng = np.random.default_rng([self.seed, number])
        image = self.blurred(image, contrast)
        if self.motion_mm:
            image = moved_while_scanned(image, self.motion_mm / self.pixel_mm)
        image = image[inside]
        if self.ct:
            return image + np.float32(contrast.noise) * self.piece(rng, pixels)
        image = image * self.gain(number, contrast.bias, pixels)
        if self.ghost:
            echo = (
                np.roll(image, self.ghost_shift, axis=0) if ghost is None else ghost(number, pixels, self.ghost_shift)
            )
            image = image + self.ghost * echo
        real = image + np.float32(contrast.noise) * self.piece(rng, pixels)
        other = np.float32(contrast.noise) * self.piece(rng, pixels)
        return np.sqrt(real * real + other * other)

    def blurred(self, image: np.ndarray, contrast: Contrast) -> np.ndarray:
        """The slice with the scanner's Gaussian blur."""
        sigma = contrast.blur_mm / self.pixel_mm
        return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.3 else image

    def bank(self, rng: np.random.Generator) -> np.ndarray:
        """Square noise image of SD 1, larger than a slice; in CT with the grain of a reconstruction kernel."""
        white = rng.standard_normal([BANK_MARGIN + max(self.grid.shape[1:])] * 2, dtype=np.float32)
        sigma = self.grain_mm / self.pixel_mm
        if self.ct and sigma > 0.3:
            white = cv2.GaussianBlur(white, (0, 0), sigma)
        return white / white.std()

    def piece(self, rng: np.random.Generator, pixels: Pixels) -> np.ndarray:
        """Noise for some pixels: a randomly flipped random crop of the bank, far cheaper than new random numbers."""
        rows, cols = self.grid.shape[1:]
        row, col = rng.integers(BANK_MARGIN, size=2)
        turned, mirrored, negative = rng.random(3) < 0.5
        piece = (self.grains.T if turned else self.grains)[row : row + rows, col : col + cols]
        piece = (piece[:, ::-1] if mirrored else piece)[pixels]
        return -piece if negative else piece

    def gain(self, number: int, share: float, pixels: Pixels) -> np.ndarray:
        """Bias field of a slice at some of its pixels: a smooth gain within about 1 +- `share`."""
        field = self.gain_knots(self.grid, number, share)
        rows, cols = self.knots_to_pixels
        return rows[pixels[0]] @ field @ cols[pixels[1]].T

    def gain_knots(self, grid: Grid, number: int, share: float) -> np.ndarray:
        """(GAIN_KNOTS, GAIN_KNOTS) gain at evenly spaced points of slice `number` of a grid."""
        vectors, phases, weights = self.bias_waves
        shape, n = grid.shape[1:], GAIN_KNOTS
        rows, cols = np.meshgrid(np.linspace(0, shape[0] - 1, n), np.linspace(0, shape[1] - 1, n), indexing="ij")
        points = grid.to_mm(np.stack([np.full_like(rows, number), rows, cols], -1))
        waves = np.sin(points @ (vectors.T * np.pi / 120) + phases) @ weights / np.abs(weights).sum()
        return (1 + share * waves).astype(np.float32)

    @cached_property
    def knots_to_pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, GAIN_KNOTS) and (cols, GAIN_KNOTS) matrices of cubic interpolation."""
        eye = np.eye(GAIN_KNOTS, dtype=np.float32)
        rows, cols = (cv2.resize(eye, (GAIN_KNOTS, n), interpolation=cv2.INTER_CUBIC) for n in self.grid.shape[1:])
        return rows, cols
