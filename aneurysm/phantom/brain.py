"""Signed distances (mm, positive inside) to cranial cavity, brain, CSF spaces and dural sheets; standard head."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.distance import Place, all_of, any_of, capsule, carve, ellipsoid, rods
from aneurysm.phantom.shape import VAULT_CENTRE, VAULT_HALF

CANAL = [(0, 27, -30), (0, 30, -62), (0, 31, -110), (0, 36, -160), (0, 48, -240)]


def cavity(place: Place) -> np.ndarray:
    """The three cranial fossae and the spinal canal, before protruding bone is subtracted."""
    x, y, z = place
    vault = ellipsoid(place, VAULT_CENTRE, VAULT_HALF, ever=True)
    roofs = 9 * np.exp(-(((x - 29) / 12) ** 2) - ((y + 48) / 16) ** 2)  # the orbits bulge into the anterior fossa
    lateral = ellipsoid(place, (0, 15, 2), (65, 82, 48), ever=True)
    wing = 0.8 * (y + 33 - 0.018 * (x - 34) ** 2 + 0.25 * (z + 10))
    floor = z + 24.5 - 0.012 * (x - 38) ** 2
    cavernous = 13 + 0.35 * np.maximum(0, -z - 6) + 0.12 * np.minimum(0, y) - 0.5 * np.maximum(0, y)
    middle = carve(carve(lateral, wing, 10), carve(floor, 0.9 * (x - cavernous), 10), 10)
    return any_of(
        carve(vault, z + 2.0 - 0.15 * np.minimum(0, y + 12) - roofs, 10),
        ellipsoid(place, (0, 0, -3), (15, 10, 5)),
        carve(middle, 26 - y, 12),
        ellipsoid(place, (0, 52, -15), (54, 41, 34), ever=True),
        rods(place, CANAL, (11, 9.5, 8, 8, 8)),
    )


def brainstem(place: Place) -> np.ndarray:
    """Midbrain, pons, medulla and spinal cord."""
    return any_of(
        all_of(ellipsoid(place, (0, 25, 2), (16, 11, 12)), 0.8 * (place[1] - 17.5 + 0.25 * place[0])),
        ellipsoid(place, (0, 27, -16), (18, 12, 12.5)),
        rods(place, [(0, 30, -26), *CANAL[1:]], (7.5, 5.5, 5, 5, 4)),
    )


def cisterns(place: Place) -> np.ndarray:
    """CSF spaces at the base of the brain."""
    midbrain = ellipsoid(place, (0, 25, 2), (16, 11, 12))
    return any_of(
        ellipsoid(place, (0, 4, -1), (14, 13, 7)),
        ellipsoid(place, (0, 13, -14), (15, 5, 16)),
        capsule(place, (12, 0, 1), (30, -5, 2), (4, 2.5)),
        all_of(1.4 - np.abs(midbrain + 1.2), place[2] + 6, 5 - place[2] + 0.4 * (place[1] - 25)),
        ellipsoid(place, (0, 41, 8), (9, 6, 8)),
        ellipsoid(place, (24, 24, -24), (9, 7, 7)),
        ellipsoid(place, (0, 56, -43), (14, 13, 7)),
        ellipsoid(place, (0, 24, -42), (17, 11, 14)),
        ellipsoid(place, (0, -8, 3), (3.5, 9, 6)),
    )


def ventricles(place: Place, atrophy: float) -> np.ndarray:
    """Lateral, third and fourth ventricles; wider with `atrophy`."""
    wide = 0.6 + 0.8 * atrophy
    body = [(4, -18, 15), (8, -6, 20), (11, 12, 24), (15, 30, 20), (23, 42, 12), (31, 30, 0), (34, 14, -7)]
    radii = np.array([3.2, 4.0, 3.6, 4.2, 5.0, 2.6, 1.6]) * wide
    return any_of(
        rods(place, body, radii),
        capsule(place, (23, 42, 12), (17, 62, 8), (4.0 * wide, 1.5 * wide)),
        ellipsoid(place, (0, 14, 8), (2.4 * wide + 0.4, 12, 9)),
        ellipsoid(place, (0, 41, -17), (7, 4 + 2 * wide, 10)),
    )


def tentorium(place: Place) -> np.ndarray:
    """Height in mm above the tentorium, negative below."""
    x, y, z = place
    return 0.85 * (z - (17 - 0.0065 * x * x - 0.5 * np.maximum(0, y - 46) - 0.35 * np.maximum(0, 46 - y)))


def fissures(place: Place, gap_mm: float, sway: np.ndarray) -> np.ndarray:
    """The Sylvian fissure and the CSF over the insula, wider with `gap_mm`; `sway` in mm bends them like the gyri."""
    x, y, z = place
    half = 0.7 + 0.25 * gap_mm
    sylvian = all_of(half - 0.85 * np.abs(z - 0.55 * (y + 6) - 2 + 1.1 * sway), x - 28, y + 20, 36 - y)
    insula = all_of(half - np.abs(x - 39.5 + 0.8 * sway), ellipsoid(place, (39, 8, 10), (12, 19, 13)))
    return any_of(sylvian, insula)


def sheet_zones(place: Place, above: np.ndarray) -> dict[str, np.ndarray]:
    """The regions where interhemispheric fissure, falx and tentorium exist; `above`: height above the tentorium."""
    x, y, z = place
    return {
        "cleft_zone": all_of(-ellipsoid(place, (0, 20, 8), (30, 42, 24)), np.maximum(above, 15 - y)),
        "falx_zone": all_of(-ellipsoid(place, (0, 20, 4), (30, 50, 44)), z - 5),
        "tent_zone": all_of(y - 20, x - 16 + 1.5 * np.maximum(0, y - 40)),
    }


def deep_grey(place: Place) -> np.ndarray:
    """Thalamus, caudate and lentiform nucleus."""
    return any_of(
        ellipsoid(place, (9, 20, 12), (7, 13, 8)),
        ellipsoid(place, (23, 2, 10), (6, 15, 9)),
        capsule(place, (12, -12, 13), (17, 14, 24), (5, 2)),
    )
