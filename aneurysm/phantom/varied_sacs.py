"""Sacs of the varied style: usual ones, lumpy ones, fusiform dilatations and giant aneurysms."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.curves import unit
from aneurysm.phantom.sacs import Sac, Site, build_sac

FUSIFORM_SHARE, GIANT_SHARE, LUMPY_SHARE = 0.06, 0.03, 0.3
GIANT_MM = 12.0, 27.0  # giant means 25 mm and more; large ones, from 12 mm on, are included
FUSIFORM = 1.7, 2.6  # largest radius of a fusiform dilatation, as a multiple of the artery's


def build_varied_sac(rng: np.random.Generator, location: str, site: Site, diameter_mm: float) -> Sac:
    """A sac at a site, of a random kind; see `build_sac` for the arguments.

    Fusiform dilatations are at least 1.7 times as wide as their artery and giant ones have a diameter of their own,
    whatever `diameter_mm` is. Forks have no fusiform ones.
    """
    kind = rng.random()
    if kind < FUSIFORM_SHARE and site.along is not None:
        return build_fusiform(rng, location, site, diameter_mm)
    if kind > 1 - GIANT_SHARE:
        return build_sac(rng, location, site, float(rng.uniform(*GIANT_MM)))
    sac = build_sac(rng, location, site, diameter_mm)
    return build_lumpy(rng, sac, site) if rng.random() < LUMPY_SHARE else sac


def build_fusiform(rng: np.random.Generator, location: str, site: Site, diameter_mm: float) -> Sac:
    """A spindle along the artery's course, slightly to one side; its diameter is its length."""
    radius = rng.uniform(*FUSIFORM) * site.radius_mm
    half = max(diameter_mm / 2, rng.uniform(1.3, 2.2) * radius)
    centre = site.point + rng.uniform(0, 0.5) * site.radius_mm * site.outward
    core, end = 0.2 * half * site.along, (half - site.radius_mm) * site.along
    neck = [*site.point, *centre, site.radius_mm, site.radius_mm]
    blobs = [neck, [*(centre - core), *(centre + core), radius, radius]]
    blobs += [[*(centre + way * core), *(centre + way * end), radius, site.radius_mm] for way in (-1, 1)]
    return Sac(location, centre, float(2 * half), float(2 * site.radius_mm), np.array(blobs))


def build_lumpy(rng: np.random.Generator, sac: Sac, site: Site) -> Sac:
    """The sac with a longer dome and more lobes, all within its diameter."""
    largest, aspect = sac.diameter_mm / 2, rng.uniform(1.1, 2.0)
    thick, half = largest / aspect, largest * (1 - 1 / aspect)
    axis = unit(sac.blobs[1, 3:6] - sac.blobs[1, :3] + 1e-6 * site.outward)
    neck_mm = min(sac.neck_mm, 1.9 * thick)
    neck = [*site.point, *sac.centre, min(1.3 * site.radius_mm, neck_mm / 2), neck_mm / 2]
    blobs = [neck, [*(sac.centre - half * axis), *(sac.centre + half * axis), thick, thick]]
    for _ in range(rng.integers(1, 5)):
        way = unit(rng.standard_normal(3) + 0.5 * site.outward)
        lobe = rng.uniform(0.25, 0.5) * largest
        surface = thick + half * abs(way @ axis)
        place = sac.centre + way * min(surface, largest - lobe)
        blobs.append([*place, *place, lobe, lobe])
    return Sac(sac.location, sac.centre, sac.diameter_mm, float(neck_mm), np.array(blobs))
