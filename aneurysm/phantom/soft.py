"""Signed distances to skin, fat, eyes, eye muscles and the head rest, in mm, positive inside; standard head."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.bones import ORBIT
from aneurysm.phantom.distance import Place, all_of, any_of, capsule, ellipsoid, melt, rods


def skin(place: Place, inside: np.ndarray, cover_mm: float) -> np.ndarray:
    """Head, neck and shoulders; `inside`: signed distance to the cranial cavity, `cover_mm`: bone and scalp."""
    x, y, z = place
    head = all_of(inside + cover_mm, z + 62)
    face = any_of(
        ellipsoid(place, (0, -36, -40), (60, 50, 56), ever=True),
        ellipsoid(place, (0, -50, -72), (40, 38, 40), ever=True),
    )
    temple = ellipsoid(place, (56, -14, -10), (20, 36, 40), ever=True)
    nose = rods(place, [(0, -80, -14), (0, -98, -40), (6, -90, -46)], (5, 8, 7))
    neck_y = np.interp(z, [-240, -120, -50], [40, 24, 26]).astype(np.float32)
    ring = np.sqrt((x / 57) ** 2 + ((y - neck_y) / 56) ** 2)
    neck = all_of((1 - ring) * 56, -44 - z)
    shoulders = ellipsoid(place, (0, 42, -262), (215, 82, 100), ever=True)
    outline = melt(melt(melt(head, face, 14), temple, 10), neck, 38)
    ear = all_of(ellipsoid(place, (75, 24, -20), (8, 14, 25)), 2.6 - np.abs(x - 74 - 0.4 * (y - 20)))
    return any_of(melt(outline, nose, 8), ear, melt(outline, shoulders, 40))


def fat(place: Place, depth: np.ndarray, scalp_mm: float, noise: np.ndarray) -> np.ndarray:
    """Fat under the skin (`depth` in mm), in cheeks and orbits, and between muscles (where `noise` is near 0 mm)."""
    under = scalp_mm - 0.5 + 4 * np.clip((-40 - place[2]) / 30, 0, 1)
    layer = all_of(depth - 1.8, under - depth + 0.3 * noise)
    planes = all_of(0.6 - np.abs(noise), depth - 4)
    cheek = ellipsoid(place, (44, -44, -58), (9, 12, 14))
    return any_of(layer, planes, ellipsoid(place, *ORBIT), cheek)


def eye(place: Place) -> np.ndarray:
    return ellipsoid(place, (31, -59, -17), (12, 12, 12))


def eye_muscles(place: Place) -> np.ndarray:
    """Optic nerve, the rectus muscles of the eye, and the sclera."""
    cone = [
        capsule(place, (16, -22, -9), end, (1.2, 2.0))
        for end in ((20, -54, -13), (42, -52, -13), (31, -55, -3), (31, -55, -23))
    ]
    nerve = rods(place, [(31, -48, -13), (18, -20, -7), (10, -9, -3)], (2.2, 2.0, 2.0))
    return any_of(nerve, *cone, all_of(1.0 - np.abs(eye(place)), eye(place) + 1))


def rest(x: np.ndarray, y: np.ndarray, z: np.ndarray, hollow_mm: float) -> np.ndarray:
    """The scanner's head rest: a 4 mm thick cylindrical shell of radius `hollow_mm` behind the head."""
    bowl = np.hypot(x, y - 8) - hollow_mm
    return all_of(2.0 - np.abs(bowl), y - 25, 150 - np.abs(z))
