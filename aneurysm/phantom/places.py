"""Chooses the positions of a phantom's training windows: at sacs, at vessels and look-alikes, or anywhere."""

from __future__ import annotations

import numpy as np

from aneurysm.cache.windows import Box
from aneurysm.phantom.person import Person
from aneurysm.phantom.sacs import Sac
from aneurysm.phantom.shown import ShownScan
from aneurysm.phantom.vessels import SIDES

# Vessels with a fork, and its distance in mm from their origin; None: at `Vessel.fork_mm`.
FORKS = (
    ("MCA", None), ("ICA", 0.0), ("PCom", 0.0), ("M2", 2.0), ("ophthalmic", 0.0), ("choroidal", 0.0), ("ACA", 24.0),
    ("SCA", 0.0), ("AICA", 0.0), ("PICA", 0.0), ("PCA", 0.0),
)  # fmt: skip
WINDING = ("ICA", "MCA", "vertebral", "ACA", "PCA")  # their sharpest bends look like an aneurysm's dome
SIPHON_MM = (10.0, 45.0)
NEAREST_OF = 6  # random vessel points, of which the one nearest to a slice is used


def any_place(shown: ShownScan, box: Box, rng: np.random.Generator) -> np.ndarray:
    """(3,) slice (a whole number), row and column in the cache: any slice, anywhere in the box."""
    share = rng.random(3)
    row, col = box.top + share[1] * (box.height - 1), box.left + share[2] * (box.width - 1)
    return np.array([int(share[0] * shown.crop.count), row, col])


def sac_place(shown: ShownScan, sac: Sac, rng: np.random.Generator) -> np.ndarray:
    """(3,) as any_place: the sac's centre, in a random slice through the sac."""
    slice_mm = shown.geometry.canonical_spacing[0]
    return _moved(shown, sac.centre, max(0.42 * sac.diameter_mm, 0.5 * slice_mm), rng)


def vessel_place(shown: ShownScan, rng: np.random.Generator, index: int | None = None) -> np.ndarray:
    """(3,) as any_place, at a vessel; with `index` a vessel point near that slice, with a fractional slice."""
    if index is None:
        return _moved(shown, vessel_point(shown.scan.person, rng), 2.0, rng)
    places = shown.to_cache(np.stack([vessel_point(shown.scan.person, rng) for _ in range(NEAREST_OF)]))
    return places[np.abs(places[:, 0] - index).argmin()]


def _moved(shown: ShownScan, point: np.ndarray, along_mm: float, rng: np.random.Generator) -> np.ndarray:
    """(3,) as any_place: a point (person's frame), moved across slices by up to `along_mm`, in a slice of the cache."""
    place = shown.to_cache(point[None])[0]
    moved = place[0] + rng.uniform(-along_mm, along_mm) / shown.geometry.canonical_spacing[0]
    place[0] = np.clip(round(moved), 0, shown.crop.count - 1)
    return place


def vessel_point(person: Person, rng: np.random.Generator) -> np.ndarray:
    """(3,) mm in the person's frame: a fork, bend, siphon, basilar or ACom, look-alike, vein, or any artery."""
    tree, side = person.vessels, SIDES[rng.choice(list(SIDES))]
    kind = rng.choice(["fork", "bend", "siphon", "middle", "mimic", "vein", "any"])
    if kind == "fork":
        name, station = FORKS[rng.integers(len(FORKS))]
        vessel = tree[f"{side} {name}"]
        return vessel.at(vessel.fork_mm if station is None else vessel.station_mm[0] + station)
    if kind == "bend":
        vessel = tree[f"{side} {rng.choice(WINDING)}"]
        stations = rng.uniform(vessel.station_mm[0] + 3, vessel.station_mm[-1] - 3, 6)
        return vessel.at(max(stations, key=lambda station: np.linalg.norm(vessel.bend_at(station))))
    if kind == "siphon":
        return tree[f"{side} ICA"].at(rng.uniform(*SIPHON_MM))
    if kind == "middle":
        vessel = tree["basilar"] if rng.random() < 0.5 else tree["ACom"]
        return vessel.points[0 if rng.random() < 0.6 else rng.integers(len(vessel.points))]
    capsules = np.vstack([person.cones, person.chalk])
    if kind == "mimic" and len(capsules):
        return capsules[rng.integers(len(capsules)), 3:6]
    vessels = [vessel for vessel in tree.values() if vessel.vein == (kind == "vein")]
    vessel = vessels[rng.integers(len(vessels))]
    return vessel.points[rng.integers(len(vessel.points))]
