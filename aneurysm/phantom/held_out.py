"""The held-out style: people and scans from another recipe, to test whether models generalise.

Anatomy table, acquisitions and files are those of the usual style. Calibres, courses, sacs, tissue intensities,
textures, blur and noise come from ranges that the usual style does not draw from. Never train on it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aneurysm.phantom.curves import chord_stations
from aneurysm.phantom.distance import Place
from aneurysm.phantom.held_out_contrast import draw_held_out_contrast, either
from aneurysm.phantom.held_out_fields import HeldOutFields
from aneurysm.phantom.held_out_noise import HeldOutNoise
from aneurysm.phantom.held_out_sacs import build_cluster
from aneurysm.phantom.mimics import draw_mimics
from aneurysm.phantom.shape import HeadShape, draw_shape
from aneurysm.phantom.style import Style
from aneurysm.phantom.vessels import LEFT, RIGHT, SIDES, Vessel
from aneurysm.phantom.waves import Waves

BENDS_MM = ((9, 15, 0.45), (18, 32, 0.9))  # shortest and longest wavelength, SD of the shift along each axis
THINNEST, WIDEST = 0.62, 1.5  # factors of a vessel's usual radius
NARROWED = ("ICA", "MCA", "ACA", "M2", "PCA", "basilar", "vertebral", "ECA")
PLEXUS = np.array([[11, 12, 24], [15, 30, 20], [22, 41, 13], [28, 33, 2]], float)  # in the lateral ventricle
PITUITARY = np.array([[0, -9.5, -8.5], [0, -6.5, -8.5]])
# Thickness of bone and scalp, never both thick: the skin would leave the oval of `may_hold_head`.
COVERS_MM = ((3.4, 4.8), (3.2, 4.3)), ((3.4, 4.8), (8.3, 10.5)), ((8.7, 10.5), (3.2, 4.3))
GLOMUS, PINEAL = np.array([22.0, 42.0, 11.0]), np.array([0.0, 41.0, 8.0])


def draw_held_out_shape(rng: np.random.Generator) -> HeadShape:
    """A head of usual size with thinner or thicker bone and scalp and a more uneven outline."""
    shape = draw_shape(rng)
    lengths = rng.uniform(38, 58, len(shape.waves))
    directions = shape.waves / np.linalg.norm(shape.waves, axis=1, keepdims=True)
    bone, scalp = COVERS_MM[rng.integers(len(COVERS_MM))]
    return replace(
        shape,
        waves=2 * np.pi / lengths[:, None] * directions,
        swing=rng.normal(0, 0.28, shape.swing.shape),
        bone_mm=float(rng.uniform(*bone)),
        scalp_mm=float(rng.uniform(*scalp)),
    )


def draw_held_out_mimics(
    rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape
) -> tuple[np.ndarray, np.ndarray]:
    """Bends all vessels, changes their calibres, adds structures that enhance like veins; see `Style.mimics`."""
    bend(rng, tree)
    change_calibres(rng, tree)
    cones, chalk = draw_mimics(rng, tree, shape)
    add_enhancing(rng, tree, shape)
    return cones, np.vstack([chalk, draw_deposits(rng, shape)])


def bend(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Shift all vessels by one wave field, so that branches stay on their parents; the frame's origin does not move."""
    bands = [([Waves(rng, low, high, 9) for _ in range(3)], swing) for low, high, swing in BENDS_MM]

    def shift(points: np.ndarray) -> np.ndarray:
        place = Place(*points.T)
        shifted = sum(swing * np.stack([wave.at(place) for wave in waves], 1) for waves, swing in bands)
        shifted[:, 0] *= np.abs(points[:, 0]) / (np.abs(points[:, 0]) + 3)  # nothing crosses the midline
        return shifted

    termini = np.stack([tree[f"{side} ICA"].points[0] for side in SIDES.values()])
    origin = shift(termini).mean(0)
    for vessel in tree.values():
        vessel.points = vessel.points + shift(vessel.points) - origin


def change_calibres(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Widen or narrow the whole tree, smoothly along it; some arteries are beaded or have stenoses."""
    whole, waves = either(rng, (0.74, 0.86), (1.16, 1.3)), Waves(rng, 25, 70, 7)
    for vessel in tree.values():
        factor = np.clip(whole * np.exp(0.12 * waves.at(Place(*vessel.points.T))), THINNEST, WIDEST)
        if not vessel.vein:
            factor = factor * beads_and_stenoses(rng, vessel)
        vessel.radius_mm = vessel.radius_mm * factor


def beads_and_stenoses(rng: np.random.Generator, vessel: Vessel) -> np.ndarray:
    """(n,) factors on the radius along an artery."""
    path = chord_stations(vessel.points)
    factor = np.ones(len(path))
    if rng.random() < 0.35:
        factor += rng.uniform(0.06, 0.15) * np.sin(2 * np.pi * path / rng.uniform(2.8, 6.0) + rng.uniform(0, 2 * np.pi))
    if vessel.name.split(" ", 1)[-1] in NARROWED:
        for _ in range(rng.poisson(0.5)):
            offset = (path - rng.uniform(0, path[-1])) / rng.uniform(0.8, 2.0)
            factor *= 1 - rng.uniform(0.25, 0.55) * np.exp(-(offset**2))
    return factor


def add_enhancing(rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape) -> None:
    """Add choroid plexus and pituitary gland, which enhance like veins."""
    found = {}
    for side in (LEFT, RIGHT):
        course = PLEXUS * [side, 1, 1] + rng.normal(0, 1.0, PLEXUS.shape)
        radius = rng.uniform(0.4, 2.2, len(course))
        if rng.random() < 0.8:
            found[f"{SIDES[side]} choroid plexus"] = course, radius
    found["pituitary gland"] = PITUITARY + rng.normal(0, 0.5, (1, 3)), np.full(2, rng.uniform(2.0, 3.2))
    for name, (points, radius) in found.items():
        station = chord_stations(points)
        tree[name] = Vessel(name, station, shape.from_standard(points), radius, vein=True)


def draw_deposits(rng: np.random.Generator, shape: HeadShape) -> np.ndarray:
    """(k, 8) calcifications outside the vessels: in the pineal gland, the choroid plexus and the falx."""
    balls = []
    for centre, share, largest in ((PINEAL, 0.7, 2.2), (GLOMUS, 0.6, 2.0), (GLOMUS * [-1, 1, 1], 0.6, 2.0)):
        grains, there = int(rng.integers(1, 5)), rng.random() < share
        places, radii = centre + rng.normal(0, 1.5, (grains, 3)), rng.uniform(0.4, largest, grains)
        balls += [(place, place, radius) for place, radius in zip(places, radii, strict=True) if there]
    for _ in range(rng.poisson(0.5)):
        start = np.array([0, rng.uniform(-40, 0), rng.uniform(40, 62)])
        balls.append((start, start + [0, rng.uniform(2, 8), rng.uniform(-2, 2)], rng.uniform(0.6, 1.3)))
    rows = [[*shape.from_standard(a), *shape.from_standard(b), radius, radius] for a, b, radius in balls]
    return np.array(rows).reshape(-1, 8)


HELD_OUT = Style(
    shape=draw_held_out_shape,
    mimics=draw_held_out_mimics,
    sac=build_cluster,
    contrast=draw_held_out_contrast,
    fields=HeldOutFields,
    noise=HeldOutNoise,
)
