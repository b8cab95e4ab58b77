"""Mimics: structures that look like aneurysms (infundibula, loops, wide forks, plaques), drawn for any label."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.curves import unit
from aneurysm.phantom.shape import HeadShape
from aneurysm.phantom.vessels import LEFT, RIGHT, SIDES, Vessel

STUMP_MM = 0.2  # radius; a vessel as thin as this counts as missing


def draw_loops(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Kinks some carotids and MCAs, in place; call this before branches are attached to them."""
    for side in (LEFT, RIGHT):
        for vessel, lowest, highest, share in (("MCA", 5, 60, 0.35), ("ICA", 6, 60, 0.25)):
            if rng.random() < share:
                loop(rng, tree[f"{SIDES[side]} {vessel}"], rng.uniform(lowest, highest))


def draw_mimics(rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape) -> tuple[np.ndarray, np.ndarray]:
    """Widens some forks in place; returns infundibula and calcifications, each (k, 8) capsules as in Sac.blobs."""
    cones, chalk, atrophy = [], [], shape.atrophy
    for side in (LEFT, RIGHT):
        name = SIDES[side]
        if rng.random() < 0.12 and tree[f"{name} PCom"].radius_mm[0] > STUMP_MM:
            cones.append(infundibulum(rng, tree[f"{name} PCom"], tree[f"{name} ICA"]))
        if rng.random() < 0.06:
            cones.append(infundibulum(rng, tree[f"{name} choroidal"], tree[f"{name} ICA"]))
        if rng.random() < 0.25:  # a fork wider than its vessels, without a dome
            swell(tree[f"{name} MCA"], tree[f"{name} MCA"].fork_mm, 2.0, rng.uniform(0.15, 0.35))
        chalk += calcify(rng, tree[f"{name} ICA"], 12, 45, atrophy)
        chalk += calcify(rng, tree[f"{name} vertebral"], 6, 30, 0.5 * atrophy)
        chalk += calcify(rng, tree[f"{name} CCA"], 0, 12, 1.2 * atrophy)
    if rng.random() < 0.3:
        swell(tree["basilar"], 0.0, 2.5, rng.uniform(0.1, 0.3))
    return np.array(cones).reshape(-1, 8), np.array(chalk).reshape(-1, 8)


def infundibulum(rng: np.random.Generator, branch: Vessel, parent: Vessel) -> list[float]:
    """A cone at a branch's origin, less than 3 mm wide at the parent's wall; the branch continues from its tip."""
    base = branch.points[0]
    way = branch.direction_at(branch.station_mm[0] + 1.5)
    wall = base + way * 0.6 * parent.radius_at(branch.station_mm[0])
    return [*wall, *(wall + way * rng.uniform(1.5, 2.8)), rng.uniform(0.8, 1.4), max(0.3, branch.radius_mm[0])]


def swell(vessel: Vessel, station_mm: float, reach_mm: float, share: float) -> None:
    """Widens a vessel smoothly around a station, by the fraction `share` at most, in place."""
    vessel.radius_mm = vessel.radius_mm * (1 + share * np.exp(-(((vessel.station_mm - station_mm) / reach_mm) ** 2)))


def loop(rng: np.random.Generator, vessel: Vessel, station_mm: float) -> None:
    """Kinks or coils a vessel around a station, in place; seen end-on it looks like a dome."""
    offset = (vessel.station_mm - station_mm) / rng.uniform(3.0, 5.0)
    along = vessel.direction_at(station_mm)
    first = unit(np.cross(along, rng.standard_normal(3)))
    swing = rng.uniform(1.0, 2.2) * np.exp(-(offset**2))[:, None]
    ends = np.clip(vessel.station_mm - vessel.station_mm[0], 0, 4)[:, None] / 4
    shift = first * np.cos(1.5 * offset)[:, None] + np.cross(along, first) * np.sin(1.5 * offset)[:, None]
    vessel.points = vessel.points + swing * ends * shift


def calcify(
    rng: np.random.Generator, vessel: Vessel, first_mm: float, last_mm: float, share: float
) -> list[list[float]]:
    """1 to 6 plaques in a vessel's wall, with probability `share`, else none; capsules as in Sac.blobs."""
    if rng.random() > share:
        return []
    plaques = []
    for _ in range(rng.integers(1, 7)):
        station = rng.uniform(first_mm, last_mm)
        along, point, radius = vessel.direction_at(station), vessel.at(station), vessel.radius_at(station)
        way = unit(np.cross(along, rng.standard_normal(3)))
        bow = unit(way + rng.uniform(0.2, 0.9) * np.cross(along, way) + rng.uniform(-0.5, 0.5) * along)
        size = rng.uniform(0.3, 0.8)
        plaques.append([*(point + way * (radius + 0.2)), *(point + bow * (radius + 0.2)), size, 0.7 * size])
    return plaques
