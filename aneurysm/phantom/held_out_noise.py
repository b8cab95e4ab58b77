"""Scanner artefacts of the held-out style: streaky or smooth grain, edge overshoot, bias fields of shorter waves."""

from __future__ import annotations

import cv2
import numpy as np

from aneurysm.phantom.contrast import Contrast
from aneurysm.phantom.distance import Place
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.held_out_contrast import either
from aneurysm.phantom.waves import Waves

KNOTS = 33  # smooth fields of a slice are computed at this many rows and columns
Pixels = tuple[slice, slice]  # rows and columns
WHOLE: Pixels = (slice(None), slice(None))


class HeldOutNoise:
    """The artefacts of one scan, with the interface of `Noise`.

    Smooth or streaky grain whose strength varies over the slice; edge overshoot; in MR a bias field of shorter waves
    that is brighter or darker in the middle.
    """

    def __init__(self, rng: np.random.Generator, modality: str, grid: Grid):
        self.ct, self.grid = modality == "CTA", grid
        self.seed = int(rng.integers(2**32))
        self.pixel_mm = float(np.sqrt(np.linalg.norm(grid.row_step) * np.linalg.norm(grid.col_step)))
        self.rest = float(rng.uniform(134, 144)) if self.ct and rng.random() < 0.5 else None
        self.grain_mm = float(rng.uniform(0.58, 0.85) if self.ct else rng.uniform(0.3, 0.6))
        self.streaks = float(rng.uniform(0.1, 0.35)) if self.ct else 0.0
        self.streak_mm = float(rng.uniform(3, 8))
        self.overshoot = float(rng.uniform(0.2, 0.6)) if rng.random() < 0.5 else 0.0
        self.strength, self.gain = Waves(rng, 40, 90, 5), Waves(rng, 60, 130, 5)
        self.middle = either(rng, (-0.25, -0.1), (0.1, 0.3))

    def margin(self, contrast: Contrast) -> int:
        """Margin in pixels that blur needs around a part."""
        sigma = contrast.blur_mm / self.pixel_mm
        return int(np.ceil(4 * sigma + 4 * max(1.0, 1.5 * sigma))) + 2

    def apply(
        self, image: np.ndarray, number: int, contrast: Contrast, pixels: Pixels = WHOLE, inside: Pixels = WHOLE, *_
    ) -> np.ndarray:
        """float32 slice with artefacts at `pixels` of the grid; `inside` indexes the same pixels in `image`."""
        rng = np.random.default_rng([self.seed, number])
        sigma = contrast.blur_mm / self.pixel_mm
        image = cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.3 else image
        if self.overshoot:
            image = image + np.float32(self.overshoot) * (
                image - cv2.GaussianBlur(image, (0, 0), max(1.0, 1.5 * sigma))
            )
        place = self.knots(number)
        middle = np.exp(-((place[0] / 60) ** 2) - ((place[1] - 16) / 70) ** 2)
        level = contrast.noise * self.spread(np.exp(0.3 * self.strength.at(place)) * (0.75 + 0.5 * middle))
        image = image[inside]
        if self.ct:
            return image + (level * self.grain(rng))[pixels]
        gain = self.spread(1 + 0.7 * contrast.bias * self.gain.at(place) + self.middle * (middle - 0.5))
        real, other = ((level * self.grain(rng))[pixels] for _ in range(2))
        return np.hypot(image * gain[pixels] + real, other)

    def grain(self, rng: np.random.Generator) -> np.ndarray:
        """(rows, cols) noise of SD 1: round grain, in CT with streaks along the rows."""
        grain = self.blurred(rng, self.grain_mm, self.grain_mm)
        if self.streaks:
            grain = np.sqrt(1 - self.streaks**2) * grain + self.streaks * self.blurred(rng, self.streak_mm, 0.6)
        return grain.astype(np.float32)

    def blurred(self, rng: np.random.Generator, along_mm: float, across_mm: float) -> np.ndarray:
        """White noise smoothed along and across the rows, scaled to SD 1."""
        along, across = (max(0.2, mm / self.pixel_mm) for mm in (along_mm, across_mm))
        white = rng.standard_normal(self.grid.shape[1:], dtype=np.float32)
        smooth = cv2.GaussianBlur(white, (0, 0), along, sigmaY=across)
        return smooth / smooth.std()

    def knots(self, number: int) -> Place:
        """The points in mm, spaced evenly over a slice, at which smooth fields are computed."""
        rows, cols = np.meshgrid(*(np.linspace(0, n - 1, KNOTS) for n in self.grid.shape[1:]), indexing="ij")
        points = self.grid.to_mm(np.stack([np.full_like(rows, number), rows, cols], -1)).astype(np.float32)
        return Place(*np.moveaxis(points, -1, 0))

    def spread(self, field: np.ndarray) -> np.ndarray:
        """Upsamples a field at the knots to float32 (rows, cols)."""
        return cv2.resize(field.astype(np.float32), self.grid.shape[:0:-1], interpolation=cv2.INTER_CUBIC)
