"""Scanner artefacts of the varied style: finer or coarser grain, also in MR, more motion, anisotropic blur."""

from __future__ import annotations

import cv2
import numpy as np

from aneurysm.phantom.contrast import Contrast
from aneurysm.phantom.noise import BANK_MARGIN, Noise

GRAIN_MM = 0.2, 0.9
LEAST_SIGMA = 0.3  # pixels; less blur is left out


class VariedNoise(Noise):
    """The artefacts of one scan, from wider ranges than those of `Noise`.

    extra_mm is the SD of further blur along rows and columns.
    """

    def draw(self, rng: np.random.Generator) -> None:
        self.grain_mm = float(rng.uniform(*GRAIN_MM))
        self.grainy = self.ct or rng.random() < 0.6
        self.motion_mm = rng.uniform(0.3, 1.6) if rng.random() < 0.3 else 0.0
        self.ghost = rng.uniform(0.01, 0.09) if rng.random() < 0.45 else 0.0
        self.ghost_shift = int(rng.integers(10, 160))
        self.bias_waves = rng.uniform(-1.6, 1.6, (6, 3)), rng.uniform(0, 2 * np.pi, 6), rng.standard_normal(6)
        self.extra_mm = rng.uniform(0, 0.6, 2) if rng.random() < 0.35 else np.zeros(2)

    def sigmas(self, contrast: Contrast) -> np.ndarray:
        """(2,) SD of the blur along columns and rows, in pixels."""
        return np.hypot(contrast.blur_mm, self.extra_mm) / self.pixel_mm

    def margin(self, contrast: Contrast) -> int:
        sigma, moved = self.sigmas(contrast).max(), self.motion_mm / self.pixel_mm
        return int(np.ceil(4 * sigma if sigma > LEAST_SIGMA else 0) + np.ceil(moved) + 2)

    def blurred(self, image: np.ndarray, contrast: Contrast) -> np.ndarray:
        across, down = self.sigmas(contrast)
        if max(across, down) <= LEAST_SIGMA:
            return image
        return cv2.GaussianBlur(image, (0, 0), across, sigmaY=down)

    def bank(self, rng: np.random.Generator) -> np.ndarray:
        """Noise larger than a slice, of SD 1; of less with coarse grain, which hides more."""
        white = rng.standard_normal([BANK_MARGIN + max(self.grid.shape[1:])] * 2, dtype=np.float32)
        sigma = self.grain_mm / self.pixel_mm
        if self.grainy and sigma > LEAST_SIGMA:
            white = cv2.GaussianBlur(white, (0, 0), sigma)
        level = min(1.0, np.sqrt(0.5 / self.grain_mm)) if self.grainy else 1.0
        return white * np.float32(level / white.std())
