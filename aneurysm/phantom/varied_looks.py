"""Look-alikes of aneurysms in the varied style: calcium, plexus, pituitary gland, wide veins."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.curves import chord_stations, smooth_walk
from aneurysm.phantom.mimics import calcify
from aneurysm.phantom.shape import VAULT_CENTRE, VAULT_HALF, HeadShape
from aneurysm.phantom.veins import draw_cortical, on_vault
from aneurysm.phantom.vessels import LEFT, RIGHT, SIDES, Vessel, tortuous, vessel_through

# In mm, standard head, x away from the midline: from the temporal horn to the foramen of Monro.
LATERAL_PLEXUS = [[33, 15, -6], [32, 27, -2], [29, 38, 5], [24, 43, 11], [17, 34, 18], [12, 16, 23], [6, 1, 19]]
FOURTH_PLEXUS = [[0.8, 44, -12], [2, 45, -21], [8, 40, -25], [15, 34, -27]]
GRAINS_MM = 0.2, 1.75  # radii
ROUND_GLAND_SHARE = 0.35
# Calcifications: share of people, centre and spread (SD) of the grains in mm, on both sides.
DEPOSITS = (
    (0.45, (24, 42, 10), (1.5, 2.0, 2.0), True),  # choroid plexus
    (0.55, (0, 36, 8), (1.2, 1.8, 1.5), False),  # pineal gland
    (0.2, (0, 29, 10), (1.5, 0.8, 0.8), False),  # habenula
    (0.2, (11, 8, -7), (2.2, 1.2, 1.5), True),  # petroclinoid ligament
    (0.15, (19, 3, 7), (2.0, 3.0, 2.0), True),  # globus pallidus
    (0.07, (14, 54, -22), (2.5, 3.0, 2.0), True),  # dentate nucleus
    (0.12, (33, 14, -6), (1.0, 2.0, 1.0), True),  # plexus of the temporal horn
)
Rods = list[tuple[np.ndarray, np.ndarray, float]]  # both ends (3,) and the radius, in mm


def draw_deposits(rng: np.random.Generator, shape: HeadShape) -> np.ndarray:
    """(k, 8) capsules: calcium in plexus, pineal gland, falx, tentorium and elsewhere in the brain."""
    grains: Rods = []
    for share, centre, spread, paired in DEPOSITS:
        there = rng.random() < share
        for side in (LEFT, RIGHT) if paired else (1,):
            if there and rng.random() < 0.85:
                grains += cluster(rng, np.array(centre) * [side, 1, 1], np.array(spread))
    if rng.random() < 0.35:
        for angle in rng.uniform(25, 150, rng.integers(1, 4)):
            grains += cluster(rng, on_vault(np.array([angle]), rng.uniform(2.5, 18))[0], np.array([0.4, 3, 3]))
    if rng.random() < 0.25:
        x, y = rng.uniform(16, 50), rng.uniform(30, 75)
        z = 17 - 0.0065 * x * x - 0.5 * max(0, y - 46) - 0.35 * max(0, 46 - y)  # of the sheet, see brain.tentorium
        grains += cluster(rng, np.array([rng.choice([LEFT, RIGHT]) * x, y, z]), np.array([2, 2, 0.5]))
    return capsules(grains, shape)


def cluster(rng: np.random.Generator, centre: np.ndarray, spread: np.ndarray) -> Rods:
    """1 to 6 grains around a place; some are short rods."""
    largest = rng.uniform(0.5, GRAINS_MM[1])
    grains = []
    for place in centre + rng.normal(0, 1, 3) + rng.normal(0, spread, (rng.integers(1, 7), 3)):
        grains.append((place, place + rng.normal(0, 0.25, 3) * spread, rng.uniform(GRAINS_MM[0], largest)))
    return grains


def capsules(rods: Rods, shape: HeadShape) -> np.ndarray:
    """(k, 8) as in Sac.blobs of rods in the standard head."""
    if not rods:
        return np.empty((0, 8))
    ends = shape.from_standard(np.array([rod[:2] for rod in rods])).reshape(-1, 6)
    radii = np.array([rod[2] for rod in rods])
    return np.column_stack([ends, radii, radii])


def draw_plaques(rng: np.random.Generator, tree: dict[str, Vessel], atrophy: float) -> np.ndarray:
    """(k, 8) capsules: larger and more plaques than the usual ones, on more arteries."""
    plaques = []
    for side in SIDES.values():
        for name, first, last, share in (
            ("ICA", 8, 60, 0.5), ("ICA", 110, 140, 0.5), ("vertebral", 2, 40, 0.3), ("MCA", 2, 16, 0.08),
        ):  # fmt: skip
            plaques += calcify(rng, tree[f"{side} {name}"], first, last, share * (0.3 + atrophy))
    plaques += calcify(rng, tree["basilar"], 3, 24, 0.15 * atrophy)
    found = np.array(plaques).reshape(-1, 8)
    found[:, 6:] *= rng.uniform(0.8, 2.2, (len(found), 1))
    return found


def add_enhancing(rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape) -> None:
    """Adds structures that enhance like veins: choroid plexus, pituitary gland, wide and additional veins."""
    made = [*draw_pituitary(rng), *draw_lakes(rng), *draw_more_cortical(rng)]
    for side in (LEFT, RIGHT):
        made += [*draw_plexus(rng, side), *draw_skull_base_veins(rng, side), *draw_neck_veins(rng, side)]
    found = {vein.name: coarser(vein) for vein in made}
    shape.carry(found)
    tree.update(found)


def coarser(vessel: Vessel) -> Vessel:
    """Keeps every second point of a vessel, for speed; in place."""
    kept = [*range(0, len(vessel.points) - 1, 2), len(vessel.points) - 1]
    vessel.points, vessel.radius_mm = vessel.points[kept], vessel.radius_mm[kept]
    vessel.station_mm, vessel.mask = vessel.station_mm[kept], vessel.mask[kept]
    return vessel


def ball(name: str, centre: np.ndarray, radius_mm: float) -> Vessel:
    """A round pool of venous blood."""
    ends = np.array([centre, np.asarray(centre) + [0, 0, 0.1]], float)
    return Vessel(name, chord_stations(ends), ends, np.full(2, float(radius_mm)), vein=True)


def lumpy(rng: np.random.Generator, vessel: Vessel, share: float) -> Vessel:
    """Makes a vessel's calibre uneven by `share` (SD) over 5 mm; in place."""
    path = chord_stations(vessel.points)
    knots = np.arange(0, path[-1] + 5, 2.5)
    walk = smooth_walk(rng, knots, 5.0)[:, 0]
    vessel.radius_mm = vessel.radius_mm * np.exp(share * np.interp(path, knots, walk))
    return vessel


def draw_plexus(rng: np.random.Generator, side: int) -> list[Vessel]:
    """Choroid plexus of the lateral and the fourth ventricle of a side, each in most people."""
    made, mirror = [], [side, 1, 1]
    thick = rng.uniform(0.5, 1.3) * np.array([0.7, 0.8, 1.2, rng.uniform(1.2, 2.6), 1.1, 0.8, 0.6])
    for name, course, radii, share in (
        ("lateral plexus", LATERAL_PLEXUS, thick, 0.75),
        ("fourth plexus", FOURTH_PLEXUS, rng.uniform(0.5, 1.5, 4), 0.6),
    ):
        knots = np.array(course, float) * mirror + rng.normal(0, 0.8, (len(course), 3))
        vessel = vessel_through(rng, f"{SIDES[side]} {name}", knots, radii, 0.8, vein=True)
        if rng.random() < share:
            made.append(lumpy(rng, vessel, 0.3))
    return made


def draw_pituitary(rng: np.random.Generator) -> list[Vessel]:
    """The gland and its stalk, across the sella, or a round gland; missing in some people."""
    if rng.random() < 0.15:
        return []
    if rng.random() < ROUND_GLAND_SHARE:
        radius = rng.uniform(2.0, 4.5)
        centre = np.array([rng.normal(0, 0.8), rng.uniform(-9, -2), rng.uniform(-10, -7)])
        return [ball("pituitary gland", centre, radius)]
    wide, high = rng.uniform(2, 4.5), rng.uniform(1.8, 3.6)
    gland = np.array([[-wide, -3, -7], [0, -3.5, -7.5], [wide, -3, -7]]) + rng.normal(0, 0.8, 3)
    stalk = np.array([gland[1] + [0, 0, high], [0, 0.5, -1.5], [rng.normal(0, 0.6), 2.5, 1.5]])
    radii = np.array([0.8, 1, 0.8]) * high
    return [
        vessel_through(rng, "pituitary gland", gland, radii, 0.3, vein=True),
        vessel_through(rng, "pituitary stalk", stalk, (rng.uniform(0.7, 1.2), rng.uniform(0.8, 1.6)), 0.3, vein=True),
    ]


def draw_lakes(rng: np.random.Generator) -> list[Vessel]:
    """Pools of venous blood at the vault: lakes beside the sagittal sinus, wide ends of cortical veins."""
    made = []
    for number in range(rng.integers(0, 6)):
        way = rng.standard_normal(3) * [0.6, 1, 1] + [0, 0, 0.8]
        place = VAULT_CENTRE + (VAULT_HALF - rng.uniform(1, 5)) * way / np.linalg.norm(way)
        if place[2] > -5:
            made.append(ball(f"venous lake {number}", place, rng.uniform(1.0, 3.8)))
    return made


def draw_more_cortical(rng: np.random.Generator) -> list[Vessel]:
    """Up to eight more veins of the convexity, some of them wide."""
    veins = draw_cortical(rng)[: rng.integers(0, 9)]
    for vein in veins:
        vein.name = f"wide {vein.name}"
        vein.radius_mm = vein.radius_mm * rng.uniform(0.8, 2.2)
    return veins


def draw_skull_base_veins(rng: np.random.Generator, side: int) -> list[Vessel]:
    """Bulges of the cavernous sinus, the jugular bulb, and the pterygoid plexus of a side."""
    name, mirror, made = SIDES[side], [side, 1, 1], []
    for number in range(rng.integers(0, 4)):
        place = np.array([rng.normal(14.5, 1.5), rng.uniform(-14, 7), rng.normal(-10, 1.5)])
        made.append(ball(f"{name} cavernous bulge {number}", place * mirror, rng.uniform(1.2, 3.2)))
    bulb = np.array([rng.normal(28, 1.5), rng.normal(19, 1), rng.uniform(-42, -31)])
    made.append(ball(f"{name} jugular bulb", bulb * mirror, rng.uniform(3, 7.5)))
    for number in range(rng.integers(0, 5)):
        knots = np.array([38, -18, -45]) + rng.normal(0, [3, 6, 6], (3, 3))
        plexus = vessel_through(rng, f"{name} pterygoid vein {number}", knots * mirror, (1.0, 0.6), 1.0, vein=True)
        made.append(lumpy(rng, plexus, 0.35))
    return made


def draw_neck_veins(rng: np.random.Generator, side: int) -> list[Vessel]:
    """External jugular and retromandibular veins, and a plexus around the upper spine."""
    name, mirror, made = SIDES[side], [side, 1, 1], []
    external = np.array([[52, -2, -35], [48, 0, -65], [46, 4, -100], [42, 4, -160]]) + rng.normal(0, 2.5, (4, 3))
    radii = (rng.uniform(0.8, 2.2), rng.uniform(1, 3))
    made.append(
        tortuous(rng, vessel_through(rng, f"{name} external jugular", external * mirror, radii, 2, vein=True), 0.6)
    )
    for number in range(rng.integers(0, 6)):
        start = np.array([rng.uniform(10, 28), rng.uniform(30, 55), rng.uniform(-150, -50)])
        knots = start + np.cumsum(rng.normal(0, 6, (4, 3)), axis=0)
        radii = (rng.uniform(0.6, 2.2), rng.uniform(0.5, 1.5))
        vein = vessel_through(rng, f"{name} vertebral plexus {number}", knots * mirror, radii, 1.5, vein=True)
        made.append(lumpy(rng, vein, 0.3))
    return made


def add_neck_arteries(rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape) -> None:
    """Adds branches of the external carotids: middle meningeal, lingual, superior thyroid, ascending pharyngeal."""
    for side in (LEFT, RIGHT):
        trunk, mirror = tree[f"{SIDES[side]} ECA"], [side, 1, 1]
        for key, share, targets, thick in (
            ("middle meningeal", 0.45, [[36, 0, -28], [46, -6, -16], [60, -4, 8], [62, 6, 34]], 0.8),
            ("lingual", 0.08, [[28, -20, -88], [18, -36, -84], [10, -52, -76]], 1.0),
            ("superior thyroid", 0.03, [[24, -8, -112], [18, -14, -135]], 0.8),
            ("ascending pharyngeal", 0.06, [[22, 4, -80], [19, 2, -58], [16, 2, -46]], 0.6),
        ):
            start = trunk.at(share * trunk.station_mm[-1])
            moved = np.array(targets, float) + rng.normal(0, 2, (len(targets), 3))
            path = np.vstack([start, shape.from_standard(moved * mirror)])
            radii = (thick * rng.uniform(0.6, 1.5), 0.35)
            name = f"{SIDES[side]} {key}"
            if rng.random() < 0.7:
                tree[name] = tortuous(rng, vessel_through(rng, name, path, radii, 1.5), 0.8)
