"""Draws the carotid arteries and the anterior circulation from the medians and deviations of 50 adults."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.curves import smooth_walk, spline
from aneurysm.phantom.shape import HeadShape
from aneurysm.phantom.vessels import LEFT, RIGHT, SIDES, Vessel, location_of, tortuous, vessel_through

# Columns in mm: station, x (from the midline), y, z, radius, SD of x, y, z
ICA = np.array([
    [0, 12.4, 0, 0, 1.3, 2.2, 0, 0],
    [4, 9.7, 0.6, -3.0, 1.4, 2.3, 1.5, 1.0],
    [8, 8.7, 0.0, -4.4, 1.6, 2.4, 2.7, 1.6],
    [12, 8.7, -2.8, -5.6, 1.7, 2.7, 3.3, 2.1],
    [16, 9.5, -5.2, -7.6, 1.7, 3.3, 3.7, 2.6],
    [20, 10.8, -5.9, -9.3, 1.7, 3.5, 4.4, 3.1],
    [25, 11.2, -5.2, -11.0, 1.7, 3.3, 5.5, 3.8],
    [30, 10.6, -1.5, -11.8, 1.7, 3.7, 5.5, 4.1],
    [35, 10.7, 2.1, -12.3, 1.7, 3.8, 4.8, 4.9],
    [40, 11.6, 5.3, -14.8, 1.7, 3.9, 4.1, 5.4],
    [50, 14.4, 8.5, -21.0, 1.7, 5.2, 4.2, 5.2],
    [60, 21.4, 12.2, -22.8, 1.7, 5.0, 5.0, 5.0],
    [72, 22.5, 12.5, -34.0, 2.0, 2.5, 2.5, 2.5],
    [90, 23.0, 12.0, -52.0, 2.1, 3.0, 3.0, 1.0],
    [108, 24.0, 11.5, -70.0, 2.2, 3.5, 3.5, 1.0],
    [126, 24.0, 12.0, -88.0, 2.5, 3.0, 3.0, 1.0],
    [142, 23.0, 13.0, -103.0, 3.4, 2.0, 2.0, 5.0],
])  # fmt: skip
MCA = np.array([
    [0, 12.4, 0, 0, 1.25, 2.2, 0, 0],
    [5, 16.5, -1.0, 2.6, 1.1, 3.6, 1.5, 1.6],
    [10, 20.8, -2.5, 2.6, 1.05, 4.5, 2.4, 2.5],
    [15, 24.5, -4.7, 1.6, 1.0, 4.5, 3.3, 3.5],
    [20, 27.9, -6.7, 1.1, 0.95, 4.5, 4.2, 4.3],
    [30, 34.9, -6.9, 3.4, 0.85, 3.5, 5.5, 5.0],
    [40, 38.8, -1.0, 7.5, 0.75, 3.0, 6.0, 5.0],
    [60, 40.5, 12.1, 17.1, 0.7, 3.0, 8.0, 6.0],
    [80, 41.0, 23.0, 27.8, 0.6, 3.0, 9.0, 6.0],
])  # fmt: skip
ACA = np.array([
    [0, 12.4, 0, 0, 1.0, 2.2, 0, 0],
    [5, 8.1, -1.2, 4.4, 0.85, 2.3, 1.4, 2.5],
    [10, 4.3, -3.3, 4.3, 0.8, 2.4, 1.7, 2.6],
    [15, 2.1, -6.2, 3.7, 0.8, 1.0, 2.0, 3.1],
    [20, 1.2, -9.9, 5.3, 0.8, 0.4, 2.4, 4.2],
    [30, 1.1, -14.9, 12.5, 0.75, 0.3, 2.9, 4.8],
    [40, 1.1, -22.2, 16.1, 0.7, 0.3, 4.2, 4.1],
    [60, 1.2, -25.9, 29.0, 0.65, 0.3, 6.0, 6.0],
    [80, 1.3, -13.9, 40.5, 0.6, 0.3, 7.0, 6.0],
    [105, 1.5, 8.0, 46.0, 0.5, 0.3, 7.0, 6.0],
])  # fmt: skip
ACOM_STATION = 15.0
CLINOID_STATION = 12.0
LIKENESS_MM = 13.0  # length scale of the Gaussian correlation of deviations along a vessel


def draw_carotids(rng: np.random.Generator) -> dict[str, Vessel]:
    """ICA, MCA, ACA of both sides and the ACom, by names such as "left ICA"; the ICA termini are at p and -p."""
    tree = {}
    apart, tilt = rng.standard_normal(), rng.normal(0, [0, 0.7, 0.7])
    radius_factor = np.exp(rng.normal(0, 0.08))
    walks = {}
    for side in (LEFT, RIGHT):
        # The origin is midway between the two termini, so both share one deviation.
        terminus = np.array([apart, 0, 0])
        bent = {"ICA": tilt, "MCA": tilt, "ACA": tilt}
        for name, table in (("ICA", ICA), ("MCA", MCA), ("ACA", ACA)):
            walk = smooth_walk(rng, table[:, 0], LIKENESS_MM, terminus)
            start = side * bent[name] * np.exp(-table[:, :1] / 10)
            walks[side, name] = walk * table[:, 5:8], start
        if side == RIGHT:
            share_midline(walks[LEFT, "ACA"][0], walks[RIGHT, "ACA"][0])
    for (side, name), (deviation, start) in walks.items():
        table = {"ICA": ICA, "MCA": MCA, "ACA": ACA}[name]
        points = (table[:, 1:4] + deviation) * [side, 1, 1] + start
        radius = table[:, 4] * radius_factor * np.exp(rng.normal(0, 0.08) + 0.05 * rng.standard_normal(len(table)))
        tree[f"{SIDES[side]} {name}"] = Vessel(f"{SIDES[side]} {name}", *spline(table[:, 0], points, radius))
    join_anterior(rng, tree)
    label_carotids(tree)
    return tree


def share_midline(left: np.ndarray, right: np.ndarray) -> None:
    """Gives both ACAs the same y and z beyond the ACom: they run side by side in the interhemispheric fissure."""
    weight = np.clip((ACA[:, :1] - 7) / 8, 0, 1)
    mean = (left[:, 1:] + right[:, 1:]) / np.sqrt(2)
    left[:, 1:] += weight * (mean - left[:, 1:])
    right[:, 1:] += weight * (mean - right[:, 1:])


def join_anterior(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Moves the ACAs to a gap of 1 to 3 mm between their walls and connects them with the ACom."""
    left, right = tree["left ACA"], tree["right ACA"]
    ends = np.stack([left.at(ACOM_STATION), right.at(ACOM_STATION)])
    gap = rng.uniform(1.0, 3.0) + left.radius_at(ACOM_STATION) + right.radius_at(ACOM_STATION)
    middle = ends.mean(0) * [0.5, 1, 1]
    for vessel, end, sign in ((left, ends[0], 0.5), (right, ends[1], -0.5)):
        goal = middle + [sign * gap, *rng.normal(0, 0.3, 2)]
        pull = np.exp(-0.5 * ((vessel.station_mm - ACOM_STATION) / 5) ** 2) * np.minimum(1, vessel.station_mm / 6)
        vessel.points = vessel.points + pull[:, None] * (goal - end)
    vary_anterior(rng, left, right)
    bridge = np.linspace(left.at(ACOM_STATION), right.at(ACOM_STATION), 4)
    thickness = rng.uniform(0.45, 0.85)
    tree["ACom"] = vessel_through(rng, "ACom", bridge, (thickness, thickness), 0.3)


def vary_anterior(rng: np.random.Generator, left: Vessel, right: Vessel) -> None:
    """Places both A2 side by side or merges them (azygos); in some people makes one A1 thin or removes it."""
    azygos = rng.random() < 0.03
    for side, vessel in ((LEFT, left), (RIGHT, right)):
        beyond = np.clip((vessel.station_mm - 17) / 6, 0, 1) * np.clip((45 - vessel.station_mm) / 6, 0, 1) * azygos
        least = np.where(vessel.station_mm > 12, vessel.radius_mm + 0.2, -np.inf)
        x = np.maximum(side * vessel.points[:, 0], least)
        vessel.points[:, 0] = side * (x * (1 - beyond) + 0.15 * beyond)
    variant = rng.random()
    weak, strong = (left, right) if rng.random() < 0.5 else (right, left)
    if variant < 0.15:  # then the other side supplies both A2
        weak.radius_mm[weak.station_mm < 14] *= 0.5
        strong.radius_mm[strong.station_mm < 14] *= 1.2
    elif variant < 0.18:
        keep = weak.station_mm >= 14
        weak.station_mm, weak.points = weak.station_mm[keep], weak.points[keep]
        weak.radius_mm, weak.mask = weak.radius_mm[keep], weak.mask[keep]


def label_carotids(tree: dict[str, Vessel]) -> None:
    """Labels the segments as in the competition's vessel masks."""
    tree["ACom"].label("Anterior Communicating Artery")
    for side in (LEFT, RIGHT):
        ica, name = tree[f"{SIDES[side]} ICA"], SIDES[side]
        ica.label(location_of("Supraclinoid Internal Carotid Artery", side), 0, CLINOID_STATION)
        ica.label(location_of("Infraclinoid Internal Carotid Artery", side), CLINOID_STATION, 75)
        tree[f"{name} MCA"].label(location_of("Middle Cerebral Artery", side), 0, 50)
        tree[f"{name} ACA"].label(location_of("Anterior Cerebral Artery", side), 0, 50)


def draw_neck(rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape) -> None:
    """Adds the common and external carotids of both sides, with maxillary, facial and occipital arteries."""
    for side in (LEFT, RIGHT):
        name, ica = SIDES[side], tree[f"{SIDES[side]} ICA"]
        fork, mirror = ica.points[-1], np.array([side, 1, 1])
        down = np.array([[0, 0, 0], [-0.5, 1, -14], [-1, 3, -45], [-2, 6, -80], [-3, 9, -150]]) * mirror
        tree[f"{name} CCA"] = vessel_through(rng, f"{name} CCA", fork + down, (3.4, 3, 3, 3.1, 3.2), 2.0)
        up = np.array(
            [[24, 4, -92], [31, -2, -72], [38, 3, -48], [50, 6, -32], [71, 10, -14], [74, 6, 10], [71, -8, 32]]
        )
        knots = np.vstack([fork, shape.from_standard((up + rng.normal(0, [0.3, 1.5, 1.5])) * mirror)])
        eca = vessel_through(rng, f"{name} ECA", knots, (2.3, 1.8, 1.5, 1.3, 1.1, 0.9, 0.7, 0.4), 1.5)
        tree[eca.name] = tortuous(rng, eca, 0.5)
        for branch, start, targets in (
            ("maxillary", 3, [[34, -8, -38], [26, -22, -36], [22, -32, -40]]),
            ("facial", 1, [[40, -20, -84], [46, -40, -80], [40, -62, -62], [26, -72, -45]]),
            ("occipital", 2, [[44, 24, -44], [40, 64, -36], [30, 95, -14], [24, 100, 12]]),
        ):
            first = eca.at(np.linspace(0, eca.station_mm[-1], len(knots))[start])
            path = np.vstack([first, shape.from_standard(np.array(targets, float) * mirror)])
            key = f"{name} {branch}"
            tree[key] = tortuous(rng, vessel_through(rng, key, path, (1.0, 0.4), 1.5), 0.8)
