"""The background of the held-out style: other sulci and textures, glands, lymph nodes, spots in the brain."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.distance import FAR, Place, ellipsoid, step
from aneurysm.phantom.fields import HeadFields
from aneurysm.phantom.shape import BRAIN_HALF, VAULT_CENTRE, HeadShape
from aneurysm.phantom.waves import Waves


class Octaves:
    """Noise in four wavelength bands, each in ridges or clouds; variance about 1."""

    BANDS_MM = ((6, 9), (9, 15), (15, 25), (25, 45))

    def __init__(self, rng: np.random.Generator):
        self.waves = [Waves(rng, *band, 8) for band in self.BANDS_MM]
        weights = rng.dirichlet(np.full(len(self.waves), 1.5))
        self.weights = (weights / np.linalg.norm(weights)).astype(np.float32)
        self.ridged = rng.random(len(self.waves)) < 0.4

    def at(self, place: Place) -> np.ndarray:
        total = np.zeros_like(place[0])
        for waves, weight, ridged in zip(self.waves, self.weights, self.ridged, strict=True):
            value = waves.at(place)
            # The magnitude of a normal variable has mean sqrt(2 / pi) and standard deviation sqrt(1 - 2 / pi).
            total += weight * ((0.798 - np.abs(value)) / np.float32(0.603) if ridged else value)
        return total


class HeldOutFields(HeadFields):
    """The fields of one head, with other sulci and textures, and with glands, lymph nodes and spots in the brain."""

    def __init__(self, shape: HeadShape):
        super().__init__(shape)
        rng = np.random.default_rng([shape.seed, 1])
        self.gyri = Waves(rng, *((12, 16) if rng.random() < 0.5 else (28, 38)), 9)
        self.folia = Waves(rng, 10, 13, 5)
        self.planes = Waves(rng, *((13, 16) if rng.random() < 0.5 else (32, 45)), 6)
        self.cells = Waves(rng, 10, 14, 6)
        self.cloud = Octaves(rng)
        self.wide = Waves(rng, 20, 50)
        self.glands = draw_glands(rng)

    def near(self, standard: np.ndarray) -> dict[str, np.ndarray]:
        found = super().near(standard)
        place = Place(*(np.ascontiguousarray(standard[:, axis]) for axis in range(3)))
        for centre, half, brightness in self.glands:
            depth = ellipsoid(place, centre, half)
            if depth is not FAR:
                found["texture"] = found["texture"] + np.float32(brightness) * step(depth, 2.0)
                found["fat"] = np.minimum(found["fat"], -depth)
        return found

    def furrows(self, signed, folds: np.ndarray, depth: np.ndarray, cerebellum: np.ndarray):
        """As in `HeadFields`, but 0.5 mm wider on average, by an amount that varies over the brain."""
        folds, fade = super().furrows(signed, folds, depth, cerebellum)
        return folds, fade - (np.float32(0.25) + np.float32(0.2) * self.wide.at(signed))


def draw_glands(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Ellipsoids outside the vessels: centre and half axes in mm (standard head), brightness in SDs of the texture.

    Parotid, submandibular and thyroid glands, lymph nodes along the jugular veins, spots in the brain.
    """
    made = []
    for centre, half in (([50, 8, -50], [9, 12, 18]), ([28, -36, -92], [7, 13, 9]), ([18, -14, -150], [8, 9, 20])):
        brightness = rng.uniform(2, 9)
        for side in (1, -1):
            size = np.array(half) * rng.uniform(0.75, 1.2)
            made.append(((np.array(centre) + rng.normal(0, 1.5, 3)) * [side, 1, 1], size, brightness))
    for _ in range(rng.integers(4, 13)):
        centre = np.array([rng.choice([-1, 1]) * rng.normal(36, 5), rng.normal(8, 12), rng.uniform(-150, -62)])
        made.append((centre, rng.uniform(2.5, 6.5) * rng.uniform(0.6, 1.4, 3), rng.uniform(-4, 8)))
    for _ in range(rng.poisson(4)):
        way = rng.standard_normal(3)
        centre = VAULT_CENTRE + BRAIN_HALF * way / np.linalg.norm(way) * rng.uniform(0.3, 0.85)
        made.append((centre, rng.uniform(2.5, 6) * rng.uniform(0.7, 1.4, 3), rng.choice([-1, 1]) * rng.uniform(3, 7)))
    return made
