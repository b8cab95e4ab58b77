"""Approximate signed distances in millimetres, positive inside; x is the distance from the midline, so each is a pair.

Every function takes a place as three equal arrays (x, y, z) in the standard head.
"""

from __future__ import annotations

import numpy as np

Place = tuple[np.ndarray, np.ndarray, np.ndarray]


def ellipsoid(place: Place, centre, half) -> np.ndarray:
    """Good near the surface: value over gradient of the ellipsoid's equation."""
    q = [(p - np.float32(c)) / np.float32(h) for p, c, h in zip(place, centre, half, strict=True)]
    k0 = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    g = [v / np.float32(h) for v, h in zip(q, half, strict=True)]
    k1 = np.sqrt(g[0] * g[0] + g[1] * g[1] + g[2] * g[2]) + np.float32(1e-4)
    return k0 * (1 - k0) / k1 + np.float32(min(half)) * np.maximum(0, 0.3 - k0)


def capsule(place: Place, first, last, radius) -> np.ndarray:
    """A rod with round ends; `radius` is one number, or one for each end."""
    r0, r1 = radius if np.ndim(radius) else (radius, radius)
    along = [np.float32(b - a) for a, b in zip(first, last, strict=True)]
    base = [p - np.float32(a) for p, a in zip(place, first, strict=True)]
    length2 = np.float32(sum(float(v) ** 2 for v in along))
    share = np.clip((base[0] * along[0] + base[1] * along[1] + base[2] * along[2]) / length2, 0, 1)
    off = [b - share * v for b, v in zip(base, along, strict=True)]
    return np.float32(r0) + share * np.float32(r1 - r0) - np.sqrt(off[0] ** 2 + off[1] ** 2 + off[2] ** 2)


def rods(place: Place, knots, radii) -> np.ndarray:
    """A chain of capsules through knots."""
    pairs = zip(knots[:-1], knots[1:], radii[:-1], radii[1:], strict=True)
    return any_of(*(capsule(place, a, b, (r, s)) for a, b, r, s in pairs))


def any_of(*distances: np.ndarray) -> np.ndarray:
    """The union."""
    result = distances[0]
    for distance in distances[1:]:
        result = np.maximum(result, distance)
    return result


def all_of(*distances: np.ndarray) -> np.ndarray:
    """The intersection."""
    result = distances[0]
    for distance in distances[1:]:
        result = np.minimum(result, distance)
    return result


def melt(first: np.ndarray, second: np.ndarray, width_mm: float) -> np.ndarray:
    """The union with its crease filled over a width."""
    near = np.maximum(width_mm - np.abs(first - second), 0)
    return np.maximum(first, second) + near * near * np.float32(0.25 / width_mm)


def step(distance: np.ndarray, width_mm: float) -> np.ndarray:
    """0 outside, 1 inside, a ramp of a width between."""
    return np.clip(distance / np.float32(width_mm) + np.float32(0.5), 0, 1)
