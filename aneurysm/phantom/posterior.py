"""Draws the posterior circulation and the posterior communicating arteries."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.vessels import LEFT, RIGHT, SIDES, Vessel, location_of, tortuous, vessel_through

OTHER = "Other Posterior Circulation"
TIP_LENGTH_MM = 5.0  # length of the basilar artery that is labelled as its tip
FETAL_SHARE, MISSING_SHARE = 0.12, 0.13

P2 = np.array([[14, 16, 1.5], [19, 22, 1], [22, 30, 3], [20, 42, 6], [14, 55, 9], [10, 72, 12]], float)
SCA = np.array([[8, 13, -2.5], [16, 20, -3], [19, 32, 3], [12, 48, 9], [10, 64, 9]], float)
AICA = np.array([[9, 17, -17], [20, 24, -20], [29, 33, -22], [34, 45, -28]], float)
PICA = np.array([[13, 29, -43], [12, 39, -48], [6, 45, -40], [6, 56, -42], [12, 68, -46]], float)


def draw_posterior(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Adds basilar, vertebrals, PCA, PCom, SCA, AICA and PICA to a tree that contains the ICAs."""
    tip = rng.normal([0.3, 10.6, 0.9], [1.1, 1.9, 3.6])
    basilar = draw_basilar(rng, tip)
    tree["basilar"] = basilar
    draw_vertebrals(rng, tree)
    for side in (LEFT, RIGHT):
        draw_pca(rng, tree, side)
        mirror, name = np.array([side, 1, 1]), SIDES[side]
        vertebral = tree[f"{name} vertebral"]
        for branch, parent, station, course, thick in (
            ("SCA", basilar, 2.0, SCA, 0.65),
            ("AICA", basilar, 0.5 * basilar.station_mm[-1], AICA, 0.5),
            ("PICA", vertebral, rng.uniform(9, 17), PICA, 0.6),
        ):
            start = parent.at(station)
            lag = np.exp(-np.arange(1, len(course) + 1) / 2.0)[:, None] * (start - course[0] * mirror) * [0, 1, 1]
            knots = np.vstack([start, course * mirror + lag + rng.normal(0, 1.0, course.shape)])
            key, thick = f"{name} {branch}", thick * np.exp(rng.normal(0, 0.15))
            tree[key] = tortuous(rng, vessel_through(rng, key, knots, (thick, 0.35), 1.0), 0.7).label(OTHER, 0, 35)


def draw_basilar(rng: np.random.Generator, tip: np.ndarray) -> Vessel:
    """The basilar artery from its tip down to the union of the vertebrals, bowed to one side or S-shaped."""
    length, bow = rng.uniform(25, 30), rng.normal(0, 2.2)
    down = np.linspace(0, 1, 6)[:, None] * [rng.normal(0, 1.0), rng.normal(4.0, 1.0), -length]
    down[:, 0] += bow * np.sin(np.linspace(0, np.pi, 6)) * (1 if rng.random() < 0.5 else np.linspace(-1, 1, 6))
    thick = np.exp(rng.normal(0, 0.12)) * np.array([1.5, 1.5, 1.55, 1.6, 1.6, 1.6])
    basilar = vessel_through(rng, "basilar", tip + down, thick, 0.5)
    return basilar.label("Basilar Tip", 0, TIP_LENGTH_MM).label(OTHER, TIP_LENGTH_MM + 1e-6)


def draw_vertebrals(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Adds the vertebrals, from their union through the foramen magnum down the neck; in 32 % of people one is thin."""
    union = tree["basilar"].points[-1]
    thin = rng.choice([LEFT, RIGHT, 0], p=[0.12, 0.2, 0.68])
    course = [[3, 3, -8], [7, 8, -18], [11, 14, -30], [16, 19, -36], [25, 18, -38], [27, 9, -44], [18, 5, -56]]
    course += [[17, 4, -80], [17, 6, -110], [18, 10, -140], [21, 14, -190]]
    for side in (LEFT, RIGHT):
        knots = np.vstack([[0, 0, 0], np.array(course, float) * [side, 1, 1]])
        knots[1:] += rng.normal(0, 1.0, (len(course), 3))
        thick = 1.6 * np.exp(rng.normal(0, 0.15)) * (0.5 if side == thin else 1.0)
        name = f"{SIDES[side]} vertebral"
        tree[name] = vessel_through(rng, name, knots + union, (thick, 1.1 * thick), 1.2).label(OTHER, 0, 40)


def draw_pca(rng: np.random.Generator, tree: dict[str, Vessel], side: int) -> None:
    """Adds P1 and P2 of a side and its PCom: usual, fetal (thick PCom, thin P1), thin or missing."""
    name, mirror, ica = SIDES[side], np.array([side, 1, 1]), tree[f"{SIDES[side]} ICA"]
    tip, kind = tree["basilar"].points[0], rng.random()
    fetal, missing = kind < FETAL_SHARE, kind > 1 - MISSING_SHARE
    junction = tip + rng.normal([7.0, 0.5, 1.0], [1.0, 1.0, 1.0]) * mirror
    course = P2 * mirror + rng.normal(0, 1.5, P2.shape)
    # The start of P2 follows the height of the basilar tip, the rest follows the midbrain.
    course[:, 1:] += np.exp(-np.arange(1, len(course) + 1) / 2.0)[:, None] * (tip[1:] - [10.6, 0.9])
    thick = np.exp(rng.normal(0, 0.12)) * np.array(
        [0.4 if fetal else 1.1, 0.8 if fetal else 1.1, 1, 1, 0.9, 0.8, 0.7, 0.5]
    )
    pca = vessel_through(rng, f"{name} PCA", np.vstack([tip, junction, course]), thick, 0.7)
    tree[pca.name] = tortuous(rng, pca, 0.5).label(OTHER, 0, 45)
    radius = (
        rng.uniform(0.85, 1.1) if fetal else rng.uniform(0.3, 0.45) if rng.random() < 0.15 else rng.uniform(0.4, 0.8)
    )
    origin = rng.uniform(5.0, 7.0)
    start, end = ica.at(origin), pca.at(np.linalg.norm(junction - tip))
    middle = (start + end) / 2 + rng.normal([0.5, 0, -0.7], [0.8, 0.5, 0.8]) * mirror
    pcom = vessel_through(rng, f"{name} PCom", np.stack([start, middle, end]), (radius, radius), 0.5)
    pcom.station_mm += origin  # so that the first station is its origin on the ICA
    if missing:  # kept, but too thin to be visible, so that its origin on the ICA is known
        pcom.radius_mm = np.full(len(pcom.points), 0.12)
    tree[pcom.name] = pcom.label(location_of("Posterior Communicating Artery", side))
