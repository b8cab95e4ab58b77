"""The background of the varied style: sulci and textures of any size, glands, lymph nodes, spots in the brain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.phantom.distance import Place, ellipsoid, step
from aneurysm.phantom.fields import HeadFields
from aneurysm.phantom.shape import BRAIN_HALF, VAULT_CENTRE, HeadShape
from aneurysm.phantom.vessels import LEFT, RIGHT
from aneurysm.phantom.waves import Waves

SOFT_MM = 2.0  # width of the border of a gland
# Of each field: range of the shortest wavelength in mm, range of the longest as a multiple of it, number of waves.
WAVELENGTHS = {
    "gyri": ((11, 27), (1.2, 1.8), 9), "folia": ((6, 11), (1.15, 1.5), 5), "planes": ((11, 30), (1.3, 2.4), 6),
    "cells": ((5, 12), (1.2, 1.8), 6), "cloud": ((5, 20), (1.5, 5), 6),
}  # fmt: skip
# Centre and half axes in mm of the glands of a side, standard head, x away from the midline.
GLANDS = {
    "parotid": ((53, 4, -47), (8, 14, 17)), "submandibular": ((27, -31, -93), (8, 12, 8)),
    "thyroid": ((17, -10, -152), (8, 8, 18)), "lacrimal": ((41, -57, -6), (3, 6, 4)),
}  # fmt: skip


@dataclass(frozen=True)
class Lump:
    """An ellipsoid in the standard head: centre and half axes in mm, and its brightness in SDs of the texture."""

    centre: np.ndarray
    half: np.ndarray
    brightness: float


class VariedFields(HeadFields):
    """The fields of one head, drawn from wide ranges, with lumps in soft tissue and brain."""

    def __init__(self, shape: HeadShape):
        super().__init__(shape)
        rng = np.random.default_rng([shape.seed, 2])
        for name, (shortest, multiple, count) in WAVELENGTHS.items():
            low = rng.uniform(*shortest)
            setattr(self, name, Waves(rng, low, low * rng.uniform(*multiple), count))
        self.wider_mm = np.float32(rng.uniform(-0.2, 0.4))  # added to half the width of all sulci for the age
        self.lumps = [*draw_glands(rng), *draw_nodes(rng), *draw_spots(rng)]

    def near(self, standard: np.ndarray) -> dict[str, np.ndarray]:
        found = super().near(standard)
        texture = found["texture"].copy()
        axes = np.ascontiguousarray(standard.T)
        low, high = axes.min(1), axes.max(1)
        for lump in self.lumps:
            reach = lump.half + SOFT_MM
            if (lump.centre + reach < low).any() or (lump.centre - reach > high).any():
                continue
            inside = slice(None)
            for axis in np.argsort(reach / (high - low + 1)):  # the axis that leaves the fewest points first
                near = np.flatnonzero(np.abs(axes[axis, inside] - np.float32(lump.centre[axis])) < reach[axis])
                inside = near if isinstance(inside, slice) else inside[near]
            if len(inside):
                depth = ellipsoid(Place(*standard[inside].T), lump.centre, lump.half, ever=True)
                texture[inside] += np.float32(lump.brightness) * step(depth, SOFT_MM)
                found["fat"][inside] = np.minimum(found["fat"][inside], -depth)
        return found | {"texture": texture}

    def furrows(self, signed, folds: np.ndarray, depth: np.ndarray, cerebellum: np.ndarray):
        folds, fade = super().furrows(signed, folds, depth, cerebellum)
        return folds, fade - self.wider_mm


def draw_glands(rng: np.random.Generator) -> list[Lump]:
    """Salivary and other glands, the same on both sides; some are missing or look like muscle."""
    lumps = []
    for centre, half in GLANDS.values():
        brightness = rng.uniform(-2, 11)
        for side in (LEFT, RIGHT):
            if rng.random() < 0.85:
                moved = (np.array(centre) + rng.normal(0, 2, 3)) * [side, 1, 1]
                lumps.append(Lump(moved, np.array(half) * rng.uniform(0.7, 1.3, 3), brightness))
    return lumps


def draw_nodes(rng: np.random.Generator) -> list[Lump]:
    """Lymph nodes beside the jugular veins and behind the throat."""
    lumps = []
    for _ in range(rng.integers(0, 17)):
        side, z = rng.choice([LEFT, RIGHT]), rng.uniform(-155, -55)
        jugular = np.array([side * 30, 15, z])
        half = rng.uniform(1.5, 5.5) * np.array([1, 1, rng.uniform(1, 2)])
        lumps.append(Lump(jugular + rng.normal(0, [7, 10, 0]), half, rng.uniform(-3, 10)))
    return lumps


def draw_spots(rng: np.random.Generator) -> list[Lump]:
    """Bright or dark spots in the brain: lacunes, wide perivascular spaces, lesions, calcium; in most people few."""
    lumps = []
    for _ in range(rng.poisson(rng.choice([1, 4, 10]))):
        place = rng.standard_normal(3)
        place *= rng.random() ** (1 / 3) * 0.9 / np.linalg.norm(place)
        half = rng.uniform(1, 5) * rng.uniform(0.7, 1.4, 3)
        lumps.append(Lump(VAULT_CENTRE + BRAIN_HALF * place, half, rng.choice([-1, 1]) * rng.uniform(2, 9)))
    return lumps
