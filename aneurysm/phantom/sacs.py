"""Aneurysm sacs: their sites on the arteries by label, and the shape of neck, dome and lobes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aneurysm.labels import LOCATIONS
from aneurysm.phantom.curves import unit
from aneurysm.phantom.vessels import LEFT, RIGHT, SIDES, Vessel

MEDIAN_MM, SMALLER, LARGER = 5.0, 0.42, 0.53  # lognormal diameter; SD of its logarithm below and above the median


@dataclass(frozen=True)
class Site:
    """A place on an artery where a sac may arise.

    point, outward, along  (3,) on the centreline, direction out of the wall, unit vector along the artery or None
    radius_mm              radius of the artery
    weight                 frequency of sacs here, relative to the location's other sites
    """

    point: np.ndarray
    outward: np.ndarray
    radius_mm: float
    weight: float
    along: np.ndarray | None = None


@dataclass(frozen=True)
class Sac:
    """One aneurysm in the person's frame.

    location    one of LOCATIONS
    centre      (3,) mm, of the dome
    diameter_mm the dome's largest diameter, without lobes
    neck_mm     the neck's diameter
    blobs       (k, 8) its capsules, first the neck: both ends in mm and their radii, (x, y, z, x, y, z, r, r)
    """

    location: str
    centre: np.ndarray
    diameter_mm: float
    neck_mm: float
    blobs: np.ndarray


BuildSac = Callable[[np.random.Generator, str, Site, float], Sac]


def draw_sacs(
    rng: np.random.Generator, tree: dict[str, Vessel], locations: Sequence[str], build: BuildSac | None = None
) -> list[Sac]:
    """One sac per location; redrawn up to 19 times if less than 2 mm from another one or across the midline.

    `build` builds a sac at its site; it has the arguments of `build_sac`, the default.
    """
    build = build or build_sac
    sacs: list[Sac] = []
    for location in locations:
        diameter = draw_diameter(rng)
        for _ in range(20):
            site = draw_site(rng, tree, location)
            sac = build(rng, location, site, diameter)
            apart = all(np.linalg.norm(sac.centre - s.centre) > (sac.diameter_mm + s.diameter_mm) / 2 + 2 for s in sacs)
            if apart and side_of(location) * sac.centre[0] >= 0:
                break
        sacs.append(sac)
    return sacs


def draw_diameter(rng: np.random.Generator) -> float:
    """Diameter in mm: median 5; 90 % lie between 2.5 and 12, all between 1.8 and 25."""
    deviation = rng.standard_normal()
    return float(np.clip(MEDIAN_MM * np.exp(deviation * (LARGER if deviation > 0 else SMALLER)), 1.8, 25))


def side_of(location: str) -> int:
    """1 for a left label, -1 for a right one, 0 for the midline."""
    return {"Left": LEFT, "Right": RIGHT}.get(location.split()[0], 0)


def draw_site(rng: np.random.Generator, tree: dict[str, Vessel], location: str) -> Site:
    """A random site of a location; within 5 mm of the midline `outward` does not point across it.

    Raises ValueError for an unknown location."""
    if location not in LOCATIONS:
        raise ValueError(f"expected one of {LOCATIONS}, found {location!r}")
    sites = SITES[location.split(" ", 1)[1] if side_of(location) else location](rng, tree, side_of(location))
    weights = np.array([site.weight for site in sites])
    site = sites[rng.choice(len(sites), p=weights / weights.sum())]
    outward = unit(unit(site.outward) + 0.45 * rng.standard_normal(3) / np.sqrt(3))
    if side_of(location) * outward[0] < 0 and abs(site.point[0]) < 5:
        outward = outward * [-1, 1, 1]
    return replace(site, outward=outward)


def wall_site(rng: np.random.Generator, vessel: Vessel, station_mm: float, weight: float, lean=(0, 0, 0)) -> Site:
    """A side-wall site; `outward`: to the outside of the bend plus `lean`, perpendicular to the vessel."""
    way = unit(vessel.bend_at(station_mm)) + np.asarray(lean) + 0.3 * rng.standard_normal(3)
    along = vessel.direction_at(station_mm)
    outward = unit(way - (way @ along) * along)
    return Site(vessel.at(station_mm), outward, vessel.radius_at(station_mm), weight, along)


def infraclinoid_sites(rng, tree, side):
    ica = tree[f"{SIDES[side]} ICA"]
    return [wall_site(rng, ica, station, 1.0) for station in rng.uniform(14, 40, 3)]


def supraclinoid_sites(rng, tree, side):
    ica, name = tree[f"{SIDES[side]} ICA"], SIDES[side]
    origin = tree[f"{name} PCom"].station_mm[0]
    end = Site(ica.points[0], np.array([0.2 * side, 0.2, 1.0]), ica.radius_at(0), 1.0)
    ophthalmic = wall_site(rng, ica, rng.uniform(10, 11.8), 1.2, (-0.5 * side, 0, 0.8))
    choroidal = wall_site(rng, ica, origin - rng.uniform(2.2, 3.5), 0.7, (0.3 * side, 0.8, 0))
    medial = wall_site(rng, ica, rng.uniform(origin + 2.2, 11), 0.8, (-0.5 * side, 0, 0))
    return [end, ophthalmic, choroidal, medial]


def mca_sites(rng, tree, side):
    mca, lower = (tree[f"{SIDES[side]} {part}"] for part in ("MCA", "M2"))
    station = mca.fork_mm
    onward = mca.direction_at(station) + 0.4 * lower.direction_at(2)
    return [
        Site(mca.at(station), onward, mca.radius_at(station), 7.0),
        wall_site(rng, mca, rng.uniform(4, station - 3), 2.0, (0, 0, 0.3)),
        wall_site(rng, lower, rng.uniform(6, 16), 0.5),
        wall_site(rng, mca, station + rng.uniform(6, 14), 0.5),
    ]


def acom_sites(rng, tree, side):
    acom = tree["ACom"]
    way = np.array([0.3 * rng.standard_normal(), -1.0, rng.normal(0.2, 0.8)])
    return [Site(point, way, acom.radius_mm[0], 1.0) for point in acom.points[[0, len(acom.points) // 2, -1]]]


def aca_sites(rng, tree, side):
    aca = tree[f"{SIDES[side]} ACA"]
    sites = [wall_site(rng, aca, rng.uniform(22, 34), 1.0, (0.3 * side, -0.5, 0))]
    sites.append(wall_site(rng, aca, rng.uniform(36, 60), 2.0, (0.2 * side, -0.8, 0)))
    if aca.station_mm[0] < 1:  # A1 is present
        sites.append(wall_site(rng, aca, rng.uniform(2, 11), 1.5, (0, -0.3, 0.3)))
    return sites


def pcom_sites(rng, tree, side):
    ica, origin = tree[f"{SIDES[side]} ICA"], tree[f"{SIDES[side]} PCom"].station_mm[0]
    station = origin + rng.uniform(-1, 1)
    return [Site(ica.at(station), np.array([0.5 * side, 1.0, -0.4]), ica.radius_at(station), 1.0)]


def tip_sites(rng, tree, side):
    basilar = tree["basilar"]
    return [Site(basilar.points[0], np.array([rng.normal(0, 0.3), 0.1, 1.0]), basilar.radius_mm[0], 1.0)]


def posterior_sites(rng, tree, _side):
    name, basilar = SIDES[rng.choice([LEFT, RIGHT])], tree["basilar"]
    vertebral, pca = tree[f"{name} vertebral"], tree[f"{name} PCA"]
    sites = [wall_site(rng, vertebral, rng.uniform(4, 24), 1.0), wall_site(rng, pca, rng.uniform(3, 30), 1.0)]
    sites.append(wall_site(rng, basilar, rng.uniform(7, 0.9 * basilar.station_mm[-1]), 0.5))
    for branch, weight in (("SCA", 1.0), ("AICA", 0.7), ("PICA", 1.5)):
        vessel = tree[f"{name} {branch}"]
        sites.append(Site(vessel.at(1.0), vessel.direction_at(2.0), vessel.radius_mm[0] + 0.5, weight))
    return sites


SITES = {
    "Infraclinoid Internal Carotid Artery": infraclinoid_sites,
    "Supraclinoid Internal Carotid Artery": supraclinoid_sites,
    "Middle Cerebral Artery": mca_sites,
    "Anterior Communicating Artery": acom_sites,
    "Anterior Cerebral Artery": aca_sites,
    "Posterior Communicating Artery": pcom_sites,
    "Basilar Tip": tip_sites,
    "Other Posterior Circulation": posterior_sites,
}


def build_sac(rng: np.random.Generator, location: str, site: Site, diameter_mm: float) -> Sac:
    """A sac with a neck, an oblong dome on the vessel's wall, and up to three lobes."""
    aspect = rng.uniform(1.0, 1.35) if diameter_mm < 7 else rng.uniform(1.0, 1.6)
    thick, half = diameter_mm / 2 / aspect, diameter_mm / 2 * (1 - 1 / aspect)
    axis = unit(site.outward + 0.5 * rng.standard_normal(3))
    lift = half * abs(axis @ site.outward) + thick
    centre = site.point + site.outward * (rng.uniform(0.5, 0.95) * site.radius_mm + 0.9 * lift)
    narrow = rng.uniform(0.6, 0.95) if diameter_mm < 7 else rng.uniform(0.35, 0.65)
    neck = narrow * 2 * thick
    taper = min(1.3 * site.radius_mm, neck / 2)
    blobs = [[*site.point, *centre, taper, neck / 2], [*(centre - half * axis), *(centre + half * axis), thick, thick]]
    for _ in range(min(3, rng.poisson(0.25 * max(0.0, diameter_mm - 3)))):
        way = unit(unit(rng.standard_normal(3)) + 0.5 * site.outward)
        lobe = rng.uniform(0.3, 0.5) * diameter_mm / 2
        place = centre + way * (0.85 * thick + 0.3 * half * abs(way @ axis))
        blobs.append([*place, *(place + 0.2 * lobe * way), lobe, 0.9 * lobe])
    return Sac(location, centre, float(diameter_mm), float(neck), np.array(blobs))
