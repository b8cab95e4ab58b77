"""What the scanner adds: blur, uneven gain, grain, ghosts of motion; the same for a slice whatever else is rendered."""

from __future__ import annotations

import cv2
import numpy as np

from aneurysm.data.phantom.contrast import Contrast
from aneurysm.data.phantom.grid import Grid

BANK_MARGIN = 509  # a slice is cut from this many rows and columns more


def moved_while_scanned(image: np.ndarray, columns: float) -> np.ndarray:
    """The mean of the slice and of itself shifted by a fraction of columns."""
    shift = np.array([[1, 0, columns], [0, 1, 0]], np.float32)
    moved = cv2.warpAffine(image, shift, image.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return 0.5 * (image + moved)


class Noise:
    """The imperfections of one scan.

    rest is the radius in mm of the CT head rest, None where there is none.
    """

    def __init__(self, rng: np.random.Generator, modality: str, grid: Grid):
        self.ct, self.grid = modality == "CTA", grid
        self.seed = int(rng.integers(2**32))
        self.pixel_mm = float(np.sqrt(np.linalg.norm(grid.row_step) * np.linalg.norm(grid.col_step)))
        self.rest = float(rng.uniform(118, 130)) if self.ct and rng.random() < 0.5 else None
        self.grain_mm = rng.uniform(0.3, 0.55)
        self.motion_mm = rng.uniform(0.4, 1.2) if rng.random() < 0.15 else 0.0
        self.ghost = rng.uniform(0.01, 0.05) if rng.random() < 0.3 else 0.0
        self.ghost_shift = int(rng.integers(20, 120))
        self.bias_waves = rng.uniform(-1, 1, (4, 3)), rng.uniform(0, 2 * np.pi, 4), rng.standard_normal(4)
        self.grains = self.bank(rng)

    def apply(self, image: np.ndarray, number: int, contrast: Contrast) -> np.ndarray:
        """The slice as scanned; float32 (rows, cols)."""
        rng = np.random.default_rng([self.seed, number])
        sigma = contrast.blur_mm / self.pixel_mm
        image = cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.3 else image
        if self.motion_mm:
            image = moved_while_scanned(image, self.motion_mm / self.pixel_mm)
        if self.ct:
            return image + np.float32(contrast.noise) * self.piece(rng)
        image = image * self.gain(number, image.shape, contrast.bias)
        if self.ghost:
            image = image + self.ghost * np.roll(image, self.ghost_shift, axis=0)
        real = image + np.float32(contrast.noise) * self.piece(rng)
        other = np.float32(contrast.noise) * self.piece(rng)
        return np.sqrt(real * real + other * other)

    def bank(self, rng: np.random.Generator) -> np.ndarray:
        """Noise of SD 1, larger than a slice, in CT with the grain of a reconstruction kernel."""
        white = rng.standard_normal([BANK_MARGIN + max(self.grid.shape[1:])] * 2, dtype=np.float32)
        sigma = self.grain_mm / self.pixel_mm
        if self.ct and sigma > 0.3:
            white = cv2.GaussianBlur(white, (0, 0), sigma)
        return white / white.std()

    def piece(self, rng: np.random.Generator) -> np.ndarray:
        """(rows, cols) cut from the bank at random, turned over or not: far cheaper than new numbers for each slice."""
        rows, cols = self.grid.shape[1:]
        row, col = rng.integers(BANK_MARGIN, size=2)
        turned, mirrored, negative = rng.random(3) < 0.5
        piece = (self.grains.T if turned else self.grains)[row : row + rows, col : col + cols]
        piece = piece[:, ::-1] if mirrored else piece
        return -piece if negative else piece

    def gain(self, number: int, shape: tuple[int, int], share: float) -> np.ndarray:
        """A smooth field of mean 1, within about +- `share`."""
        vectors, phases, weights = self.bias_waves
        rows, cols = np.meshgrid(np.linspace(0, shape[0] - 1, 9), np.linspace(0, shape[1] - 1, 9), indexing="ij")
        points = self.grid.to_mm(np.stack([np.full_like(rows, number), rows, cols], -1))
        waves = np.sin(points @ (vectors.T * np.pi / 120) + phases) @ weights / np.abs(weights).sum()
        return cv2.resize((1 + share * waves).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
