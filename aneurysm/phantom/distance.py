"""Approximate signed distances in millimetres, positive inside, to simple shapes of which a head is built.

Shapes lie in the standard head, where x is the distance from the midline, so that each describes both sides. If a shape
is far from all points, its distance is the scalar FAR. Most shapes are far from most slices, which saves most work.
"""

from __future__ import annotations

import numpy as np

FAR, MARGIN_MM = np.float32(-40), 12.0


class Place(tuple):
    """Points as three float32 arrays (x, y, z) of the same shape, and their bounding box."""

    def __new__(cls, x: np.ndarray, y: np.ndarray, z: np.ndarray):
        place = super().__new__(cls, (x, y, z))
        place.low, place.high = [float(v.min()) for v in place], [float(v.max()) for v in place]
        return place

    def near(self, low, high) -> bool:
        """Whether the bounding box comes within MARGIN_MM of the box between two corners."""
        sides = zip(self.low, high, low, self.high, strict=True)
        return all(a - b < MARGIN_MM and c - d < MARGIN_MM for a, b, c, d in sides)


def ellipsoid(place: Place, centre, half, ever: bool = False) -> np.ndarray:
    """Accurate near the surface: value over gradient of the ellipsoid's equation; with `ever` never FAR."""
    low, high = [c - h for c, h in zip(centre, half, strict=True)], [c + h for c, h in zip(centre, half, strict=True)]
    if not (ever or place.near(low, high)):
        return FAR
    k0, k1 = np.zeros_like(place[0]), np.full_like(place[0], 1e-8)
    for p, c, h in zip(place, centre, half, strict=True):
        q = (p - np.float32(c)) * np.float32(1 / h)
        q *= q
        k0 += q
        q *= np.float32(h**-2)
        k1 += q
    k0, k1 = np.sqrt(k0, out=k0), np.sqrt(k1, out=k1)
    return k0 * (1 - k0) / k1 + np.float32(min(half)) * np.maximum(0, np.float32(0.3) - k0)


def capsule(place: Place, first, last, radius) -> np.ndarray:
    """A rod with round ends; `radius`: one number, or one for each end."""
    r0, r1 = radius if np.ndim(radius) else (radius, radius)
    most = max(r0, r1)
    ends = list(zip(first, last, strict=True))
    if not place.near([min(e) - most for e in ends], [max(e) + most for e in ends]):
        return FAR
    along = [np.float32(b - a) for a, b in ends]
    base = [p - np.float32(a) for p, a in zip(place, first, strict=True)]
    length2 = sum(float(v) ** 2 for v in along)
    share = base[0] * (along[0] / length2) + base[1] * (along[1] / length2) + base[2] * (along[2] / length2)
    share = np.clip(share, 0, 1, dtype=np.float32)
    square = 0
    for b, v in zip(base, along, strict=True):
        b = b - share * v
        square = square + b * b
    return np.float32(r0) + share * np.float32(r1 - r0) - np.sqrt(square)


def rods(place: Place, knots, radii) -> np.ndarray:
    """A chain of capsules through knots, with one radius per knot."""
    pairs = zip(knots[:-1], knots[1:], radii[:-1], radii[1:], strict=True)
    return any_of(*(capsule(place, a, b, (r, s)) for a, b, r, s in pairs))


def any_of(*distances: np.ndarray) -> np.ndarray:
    """Union of shapes."""
    result = distances[0]
    for distance in distances[1:]:
        result = np.maximum(result, distance)
    return result


def all_of(*distances: np.ndarray) -> np.ndarray:
    """Intersection of shapes."""
    result = distances[0]
    for distance in distances[1:]:
        result = np.minimum(result, distance)
    return result


def melt(first: np.ndarray, second: np.ndarray, width_mm: float) -> np.ndarray:
    """Smooth union: rounds the crease where the two distances differ by less than `width_mm`."""
    near = np.maximum(np.float32(width_mm) - np.abs(first - second), 0)
    return np.maximum(first, second) + near * near * np.float32(0.25 / width_mm)


def carve(first: np.ndarray, second: np.ndarray, width_mm: float) -> np.ndarray:
    """Smooth intersection: rounds the edge where the two distances differ by less than `width_mm`."""
    return -melt(-first, -second, width_mm)


def step(distance: np.ndarray, width_mm: float) -> np.ndarray:
    """0 outside, 1 inside, with a linear ramp of width `width_mm` centred on the surface."""
    ramp = distance * np.float32(1 / width_mm)
    ramp += np.float32(0.5)
    return np.clip(ramp, 0, 1, out=ramp)
