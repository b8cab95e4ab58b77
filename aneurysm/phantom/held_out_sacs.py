"""Sacs of the held-out style: clusters and chains of balls, grown by a random walk from the neck."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.phantom.curves import unit
from aneurysm.phantom.sacs import Sac, Site


@dataclass(frozen=True)
class Growth:
    """How a sac grows from its first ball, whose radius is the unit of all lengths.

    share     fraction of sacs that grow like this
    balls     fewest and most balls, the first one included
    attach    which earlier ball the next one is set on: "last", "any" or "first"
    turn      SD of the change of direction, in units of the direction's length
    radius    smallest and largest radius of a ball, relative to the ball it is set on
    lift      smallest and largest height of the first ball's centre above the vessel's wall
    narrow    smallest and largest width of the neck, relative to the first ball's diameter
    """

    share: float
    balls: tuple[int, int]
    attach: str
    turn: float
    radius: tuple[float, float]
    lift: tuple[float, float]
    narrow: tuple[float, float]


GROWTHS = (
    Growth(0.40, (4, 9), "any", 1.0, (0.65, 1.05), (0.8, 1.3), (0.6, 0.95)),  # irregular
    Growth(0.15, (4, 5), "last", 0.45, (0.8, 1.2), (0.8, 1.3), (0.6, 0.95)),  # elongated and bent
    Growth(0.25, (4, 7), "first", 0.9, (0.35, 0.65), (0.9, 1.4), (0.5, 0.9)),  # a dome with daughter sacs
    Growth(0.20, (4, 8), "any", 1.2, (0.6, 1.0), (0.2, 0.5), (0.9, 1.0)),  # broad-based, without a neck
)


def build_cluster(rng: np.random.Generator, location: str, site: Site, diameter_mm: float) -> Sac:
    """A sac whose largest extent is `diameter_mm`; `centre` is its centroid or, if that is outside, a ball's centre."""
    growth = GROWTHS[rng.choice(len(GROWTHS), p=[g.share for g in GROWTHS])]
    centres, radii = grow(rng, growth, site.outward)
    factor = diameter_mm / extent(centres, radii)
    wall = site.point + rng.uniform(0.6, 0.95) * site.radius_mm * site.outward
    centres, radii = wall + factor * centres, factor * radii
    neck_mm = float(rng.uniform(*growth.narrow) * 2 * radii[0])
    neck = [*site.point, *centres[0], min(1.3 * site.radius_mm, neck_mm / 2), neck_mm / 2]
    balls = np.hstack([centres, centres, radii[:, None], radii[:, None]])
    centroid = (centres * radii[:, None] ** 3).sum(0) / (radii**3).sum()
    depth = radii - np.linalg.norm(centres - centroid, axis=1)
    centre = centroid if depth.max() > 0 else centres[np.argmax(depth)]  # a bent chain's centroid may lie outside it
    return Sac(location, centre, float(diameter_mm), neck_mm, np.vstack([neck, balls]))


def grow(rng: np.random.Generator, growth: Growth, outward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (k, 3), relative to the neck on the wall, and radii (k,); the first radius is 1."""
    centres, radii = [rng.uniform(*growth.lift) * outward], [1.0]
    ways = [unit(outward + 0.4 * rng.standard_normal(3))]
    for _ in range(rng.integers(growth.balls[0] - 1, growth.balls[1])):
        parent = {"last": len(radii) - 1, "first": 0, "any": int(rng.integers(len(radii)))}[growth.attach]
        radius = float(np.clip(radii[parent] * rng.uniform(*growth.radius), 0.35, 1.3))
        way = unit(ways[parent] + growth.turn * rng.standard_normal(3))
        centre = centres[parent] + way * rng.uniform(0.5, 0.85) * (radii[parent] + 0.3 * radius)
        low = 0.4 * radius - centre @ outward  # nothing grows back into the vessel
        centres.append(centre + max(0.0, low) * outward)
        radii.append(radius)
        ways.append(way)
    return np.array(centres), np.array(radii)


def extent(centres: np.ndarray, radii: np.ndarray) -> float:
    """The largest distance between two points of balls with centres (k, 3) and radii (k,)."""
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    return float((apart + radii[:, None] + radii[None]).max())
