"""Balls and short rods anywhere in a head, as bright as veins or calcium, away from the labelled arteries."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.curves import chord_stations, unit
from aneurysm.phantom.fields import HeadFields
from aneurysm.phantom.shape import HeadShape
from aneurysm.phantom.vessels import Vessel

MOST = 8  # per person
CLEAR_MM = 2.5  # least distance of their surface from the wall of a labelled artery
RADIUS_MM = 0.8, 5.0
# Ellipsoids that contain them, around the arteries or anywhere: centre and half axes in mm, standard head.
CENTRAL, ANYWHERE = ((0, 10, 2), (52, 55, 48)), ((0, 12, -25), (75, 95, 115))


def draw_distractors(
    rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape
) -> tuple[list[Vessel], np.ndarray]:
    """Those as bright as veins, and (k, 8) capsules, as in Sac.blobs, of those as bright as calcium."""
    arteries = np.vstack([vessel.points[vessel.mask > 0] for vessel in tree.values()])
    thick = np.concatenate([vessel.radius_mm[vessel.mask > 0] for vessel in tree.values()])[:, None]
    skin, veins, chalk = HeadFields(shape).skin, [], []
    for number in range(rng.integers(0, MOST + 1)):
        ends, radius = draw_rod(rng, shape)
        path = np.linspace(ends[0], ends[1], 5)
        clear = (np.linalg.norm(arteries[:, None] - path, axis=-1) - thick).min() > CLEAR_MM + radius
        venous = rng.random() < 0.6
        if not clear or skin(path.astype(np.float32)).min() < radius + 1.5:
            continue
        if venous:
            veins.append(Vessel(f"distractor {number}", chord_stations(ends), ends, np.full(2, radius), vein=True))
        else:
            chalk.append([*ends[0], *ends[1], radius, radius])
    return veins, np.array(chalk).reshape(-1, 8)


def draw_rod(rng: np.random.Generator, shape: HeadShape) -> tuple[np.ndarray, float]:
    """Both ends (2, 3) and the radius, in mm in the person's frame; six of ten are balls, and most are small."""
    centre, half = CENTRAL if rng.random() < 0.6 else ANYWHERE
    place = np.array(centre) + half * unit(rng.standard_normal(3)) * rng.random() ** (1 / 3)
    radius = float(np.exp(rng.uniform(*np.log(RADIUS_MM))))
    length = 0.1 if rng.random() < 0.6 else rng.uniform(1, 10)
    start = shape.from_standard(place[None])[0]
    return np.stack([start, start + length * unit(rng.standard_normal(3))]), radius
