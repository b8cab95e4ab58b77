"""Signed distances (mm, positive inside) to bones other than the calvaria and to air spaces; standard head."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.distance import FAR, Place, all_of, any_of, capsule, ellipsoid, rods

BODY_PERIOD_MM, BODY_HEIGHT_MM, SECOND_DISC_MM = 18.5, 15.0, -84.0
ORBIT = (30, -49, -17), (17, 25, 15.5)


def petrous(place: Place) -> np.ndarray:
    """The petrous part of the temporal bone."""
    x, y, z = place
    wedge = capsule(place, (15, 9, -20), (52, 26, -21), (5.5, 9.5))
    if wedge is FAR:
        return FAR
    ridge = 9 - 0.75 * np.abs(y - (9 + 0.46 * (x - 15))) - (z + 20)
    return all_of(wedge, 0.8 * ridge)


def skull_base(place: Place) -> np.ndarray:
    """Sphenoid, clivus, clinoids, mastoids, occipital condyles."""
    return any_of(
        rods(place, [(0, 3, -10), (0, 5, -26), (0, 10, -43)], (5.5, 6.5, 5)),
        ellipsoid(place, (0, -15, -17), (19, 15, 12)),
        capsule(place, (0, 7.5, -5), (7, 7.5, -4), 1.6),
        capsule(place, (12, -5, -4), (16, -14, -2), (2.0, 3.0)),
        capsule(place, (14, -13, -3), (46, -24, 2), (2.6, 2.0)),
        capsule(place, (18, -16, -10), (46, -24, -12), (3.5, 3.0)),
        ellipsoid(place, (53, 34, -35), (9, 14, 18)),
        ellipsoid(place, (17, 22, -49), (6, 11, 7)),
        capsule(place, (12, -12, -34), (13, -10, -56), (2.0, 1.2)),
        capsule(place, (24, 4, -26), (40, 8, -26), 5),
        ellipsoid(place, (0, -67, 6), (26, 7, 20)),
    )


def face_bones(place: Place) -> np.ndarray:
    """Walls of orbits and sinuses, palate, cheekbones, nasal bone, and the jaws without teeth."""
    if not place.near((0, -95, -106), (66, 10, 4)):
        return FAR
    x, y, z = place
    orbit = ellipsoid(place, *ORBIT)
    rim = 2.4 - np.hypot(orbit, y + 65)
    antrum = maxillary(place)
    angle_ring = ring(place, 26, 34)
    body = all_of(5.0 - np.hypot(angle_ring, 0.5 * (z + 90)), -20 - y)
    return any_of(
        all_of(1.1 - np.abs(orbit + 1), y + 66),
        rim,
        all_of(1.2 - np.abs(antrum + 1), -20 - y),
        rods(place, [(36, -62, -28), (52, -48, -30), (62, -20, -26), (60, 4, -25)], (6, 4, 2.5, 3)),
        ellipsoid(place, (0, -50, -59), (24, 28, 3)),
        all_of(4.5 - np.abs(angle_ring) * 0.9, 8 - np.abs(z + 64), -30 - y),
        body,
        rods(place, [(40, -28, -86), (47, -14, -70), (49, -1, -45), (48, 4, -29)], (5, 3.8, 3.2, 4.5)),
        capsule(place, (0, -72, -4), (0, -83, -19), (4.0, 1.5)),
    )


def ring(place: Place, half_x, half_y) -> np.ndarray:
    """Signed distance in mm to the dental arch in the axial plane, negative inside."""
    x, y, _ = place
    k0 = np.sqrt((x / np.float32(half_x)) ** 2 + ((y + 46) / np.float32(half_y)) ** 2)
    return (k0 - 1) * np.float32((half_x + half_y) / 2)


def teeth(place: Place) -> np.ndarray:
    """Two rows of crowns on the dental arch."""
    if not place.near((0, -82, -87), (30, -34, -66)):
        return FAR
    x, y, z = place
    angle = np.arctan2(x, -(y + 46))
    gap = 0.9 * np.abs(np.cos(angle * 10.5)) - 0.35
    rows = any_of(4.5 - np.abs(z + 72.5), 4.2 - np.abs(z + 81.5))
    return all_of(3.2 - np.abs(ring(place, 25, 33)), rows, -36 - y, 5 * gap)


def spine(place: Place) -> np.ndarray:
    """Dens, atlas, vertebral bodies 15 mm high, their arches and processes, down the neck."""
    if not place.near((0, -10, -300), (35, 90, -45)):
        return FAR
    x, y, z = place
    axis_y = np.interp(z, [-240, -160, -110, -60], [34, 21, 15, 17]).astype(np.float32)
    phase = (z - SECOND_DISC_MM) / BODY_PERIOD_MM
    level = np.abs(phase - np.round(phase)) * BODY_PERIOD_MM  # distance from the nearest disc
    middle = BODY_PERIOD_MM / 2 - level  # distance from the middle of the vertebral body
    lower = (z - SECOND_DISC_MM + 0.35 * (y - axis_y - 29)) / BODY_PERIOD_MM  # spinous processes point down
    tilted = BODY_PERIOD_MM / 2 - np.abs(lower - np.round(lower)) * BODY_PERIOD_MM
    below = -66 - z
    outline = (1 - np.sqrt((x / 12.5) ** 2 + ((y - axis_y) / 8.5) ** 2)) * 10
    bodies = all_of(outline, level - (BODY_PERIOD_MM - BODY_HEIGHT_MM) / 2, below)
    arch = all_of(2.6 - np.abs(np.hypot(x, y - axis_y - 17) - 14), 6.5 - middle, y - axis_y - 6, below)
    transverse = all_of(4.0 - np.hypot(np.abs(y - axis_y - 4), 0.8 * middle), 26 - x, x - 10, below)
    process = all_of(2.8 - np.hypot(x, 0.8 * tilted), y - axis_y - 29, axis_y + 48 - y, below)
    atlas = all_of(3.6 - np.hypot(np.hypot(x, 0.95 * (y - 27)) - 21, 0.7 * (z + 60)), 30 - x)
    masses = ellipsoid(place, (19, 22, -60), (8, 9, 7))
    return any_of(bodies, arch, transverse, process, atlas, masses, rods(place, [(0, 15, -50), (0, 16, -74)], (4.5, 7)))


def maxillary(place: Place) -> np.ndarray:
    return any_of(ellipsoid(place, (27, -52, -42), (11, 15, 14)), ellipsoid(place, (24, -42, -38), (9, 12, 9)))


def sinuses(place: Place, air: float) -> np.ndarray:
    """Paranasal sinuses and nasal cavity; `air` (0 to 1) scales the sphenoid and frontal sinuses."""
    if not place.near((0, -90, -60), (42, 0, 25)):
        return FAR
    x, y, z = place
    size = 0.6 + 0.4 * air
    septa = np.abs(np.sin(y * 0.42 + 0.5 * np.sin(z * 0.3)) * np.cos(z * 0.2)) * 5 - 0.6
    ethmoid = all_of(ellipsoid(place, (6.5, -47, -20), (6.5, 23, 11)), x - 0.8, septa + 1)
    turbinates = np.hypot(x - 7, (np.mod(z, 11) - 5.5)) - 2.6
    nasal = all_of(ellipsoid(place, (5, -52, -40), (9, 32, 17)), x - 1.3, turbinates)
    return any_of(
        all_of(ellipsoid(place, (7.5, -17, -17), (9 * size, 11.5 * size, 9 * size)), x - 0.8),
        ethmoid,
        nasal,
        maxillary(place),
        all_of(ellipsoid(place, (10, -67, 6), (14 * air, 3.2, 14 * air)), x - 0.7),
    )


def airway(place: Place) -> np.ndarray:
    """Nasopharynx to trachea, ear canals, middle ear, and the tops of the lungs."""
    x, y, z = place
    throat = [(0, -22, -44), (0, -14, -58), (0, -8, -75), (0, -6, -100), (0, -8, -125), (0, -6, -160), (0, 8, -240)]
    flat = Place(x * np.float32(0.6), y, z)
    return any_of(
        rods(flat, throat, (6, 5, 4.5, 5.5, 5, 7, 8)),
        capsule(place, (38, 14, -25), (84, 18, -26), (2.2, 3.4)),
        ellipsoid(place, (37, 13, -24), (3, 6, 6)),
        ellipsoid(place, (48, 52, -232), (36, 42, 42)),
    )


def mastoid_cells(place: Place) -> np.ndarray:
    """The part of the mastoid that may contain air cells."""
    return any_of(ellipsoid(place, (53, 33, -33), (8, 12, 15)), capsule(place, (40, 20, -18), (52, 28, -22), 4)) - 1


def inner_canal(place: Place) -> np.ndarray:
    """Internal auditory canal and labyrinth, filled with fluid."""
    return any_of(capsule(place, (14, 18, -18), (25, 21, -19), (2.8, 2.0)), ellipsoid(place, (30, 18, -20), (5, 3, 3)))
