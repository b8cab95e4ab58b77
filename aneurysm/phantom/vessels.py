"""One vessel: its centreline, radii, and the label of each point."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aneurysm.labels import LOCATIONS, VESSEL_MASK
from aneurysm.phantom.curves import chord_stations, smooth_walk, spline

LEFT, RIGHT = 1, -1  # sign of x, which increases to the patient's left
SIDES = {LEFT: "left", RIGHT: "right"}
MASK_NUMBER = {location: value for value, location in VESSEL_MASK.items()}


def location_of(part: str, side: int = LEFT) -> str:
    """The label of a part such as "Middle Cerebral Artery" on a side; midline labels have no side."""
    return part if part in LOCATIONS else f"{SIDES[side].capitalize()} {part}"


@dataclass
class Vessel:
    """A tube in the head's frame (LPS millimetres).

    name       such as "left ICA"
    station_mm (n,) position along the vessel, as in the anatomy table
    points     (n, 3) centreline
    radius_mm  (n,)
    vein       True for veins and sinuses
    mask       (n,) VESSEL_MASK number of each point, 0 for none
    fork_mm    station of its bifurcation; set for MCAs only
    """

    name: str
    station_mm: np.ndarray
    points: np.ndarray
    radius_mm: np.ndarray
    vein: bool = False
    mask: np.ndarray = field(default=None)
    fork_mm: float | None = None

    def __post_init__(self):
        if self.mask is None:
            self.mask = np.zeros(len(self.points), int)

    def label(self, location: str, first_mm: float = -np.inf, last_mm: float = np.inf) -> Vessel:
        """Labels the points between two stations (inclusive) with a location, in place; returns the vessel."""
        self.mask[(self.station_mm >= first_mm) & (self.station_mm <= last_mm)] = MASK_NUMBER[location]
        return self

    def nearest(self, station_mm: float) -> int:
        """Index of the point nearest to a station."""
        return int(np.argmin(np.abs(self.station_mm - station_mm)))

    def at(self, station_mm: float) -> np.ndarray:
        """(3,) the centreline point nearest to a station."""
        return self.points[self.nearest(station_mm)]

    def radius_at(self, station_mm: float) -> float:
        return float(self.radius_mm[self.nearest(station_mm)])

    def direction_at(self, station_mm: float) -> np.ndarray:
        """(3,) unit vector along the vessel, towards larger stations."""
        index = np.clip(self.nearest(station_mm), 1, len(self.points) - 2)
        step = self.points[index + 1] - self.points[index - 1]
        return step / (np.linalg.norm(step) + 1e-9)

    def bend_at(self, station_mm: float, reach_mm: float = 4.0) -> np.ndarray:
        """(3,) vector to the outside of the bend, in mm; longer for sharper bends."""
        middle = self.at(station_mm)
        return 2 * middle - self.at(station_mm - reach_mm) - self.at(station_mm + reach_mm)


def vessel_through(
    rng: np.random.Generator,
    name: str,
    knots: np.ndarray,
    radius_mm: tuple[float, ...] | np.ndarray,
    spread_mm: float = 1.5,
    **traits,
) -> Vessel:
    """A vessel through knots (n, 3), exact at both ends, with random deviations of up to `spread_mm` (SD) between them.

    `radius_mm`: one value per knot, or the first and the last.
    """
    knots = np.asarray(knots, float)
    station = chord_stations(knots)
    along = station / station[-1]
    walk = smooth_walk(rng, station, max(6.0, station[-1] / 6))
    moved = knots + spread_mm * np.minimum(1, 4 * along * (1 - along))[:, None] * walk
    if len(radius_mm) == 2:
        radius_mm = np.interp(along, [0, 1], radius_mm)
    return Vessel(name, *spline(station, moved, np.asarray(radius_mm, float)), **traits)


def tortuous(rng: np.random.Generator, vessel: Vessel, swing_mm: float, length_mm: float = 7.0) -> Vessel:
    """Adds small deviations (SD `swing_mm`, none at its start) to a vessel's course, in place; returns the vessel."""
    path = chord_stations(vessel.points)
    knots = np.arange(0, path[-1] + length_mm, length_mm / 2)
    walk = smooth_walk(rng, knots, length_mm)
    swing = np.stack([np.interp(path, knots, walk[:, axis]) for axis in range(3)], axis=1)
    vessel.points = vessel.points + swing_mm * swing * np.minimum(1, path / (2 * length_mm))[:, None]
    return vessel
