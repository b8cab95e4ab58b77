"""The varied style, for training: wide ranges of heads and scans, with the look-alikes of real heads.

What it draws spreads about the usual style, and wider. Heads to evaluate on are drawn in the others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aneurysm.phantom.curves import chord_stations, unit
from aneurysm.phantom.mimics import STUMP_MM, draw_mimics, infundibulum, loop, swell
from aneurysm.phantom.shape import HeadShape, draw_shape
from aneurysm.phantom.style import Style
from aneurysm.phantom.varied_contrast import draw_varied_contrast
from aneurysm.phantom.varied_distractors import draw_distractors
from aneurysm.phantom.varied_fields import VariedFields
from aneurysm.phantom.varied_looks import add_enhancing, add_neck_arteries, draw_deposits, draw_plaques
from aneurysm.phantom.varied_noise import VariedNoise
from aneurysm.phantom.varied_sacs import build_varied_sac
from aneurysm.phantom.vessels import SIDES, Vessel

WHOLE_SPREAD, ALONG_SPREAD, NARROWEST, WIDEST = 0.15, 0.08, 0.65, 1.5  # of factors of a vessel's radius
ALONG_MM = 12.0  # correlation length of the calibre along a vessel
COVER_MM = 15.5  # bone and scalp together; with more, the skin exceeds the oval in which HeadFields expects a head
SCALE = 0.88, 1.13
JOINED_MM, FOLLOW_MM = 1.0, 5.0  # a branch starting this near to its parent's wall follows it for about so long
KINKS = (("MCA", 4, 60, 0.3), ("ICA", 20, 62, 0.4), ("ICA", 82, 128, 0.4), ("ACA", 3, 11, 0.3), ("PCA", 4, 40, 0.3),
         ("vertebral", 5, 40, 0.4), ("M2", 5, 30, 0.3))  # fmt: skip
FORKS = (("MCA", None, 0.4), ("ICA", 0.0, 0.3), ("ACA", 15.0, 0.25), ("M2", 0.0, 0.2), ("vertebral", 8.0, 0.2))
INFUNDIBULA = (("PCom", "ICA", 0.2), ("choroidal", "ICA", 0.15), ("ophthalmic", "ICA", 0.12), ("SCA", "basilar", 0.1))
# Arteries that may run as two channels for a few millimetres: first and last station of the middle, and how often.
FENESTRATED = (("basilar", 18, 26, 0.06), ("ACom", 1, 3, 0.06), ("left ACA", 6, 12, 0.03), ("right ACA", 6, 12, 0.03),
               ("left vertebral", 4, 12, 0.03), ("right vertebral", 4, 12, 0.03),
               ("left MCA", 5, 10, 0.02), ("right MCA", 5, 10, 0.02))  # fmt: skip


def draw_varied_shape(rng: np.random.Generator) -> HeadShape:
    """A head of wider ranges of size, unevenness, age, and thickness of bone and scalp than usual."""
    shape = draw_shape(rng)
    bone = rng.uniform(3.5, 10)
    return replace(
        shape,
        scale=np.clip(shape.scale * np.exp(rng.normal(0, 0.03)), *SCALE),
        swing=shape.swing * rng.uniform(0.5, 1.4),
        atrophy=float(rng.beta(1.3, 1.6)),
        bone_mm=float(bone),
        scalp_mm=float(rng.uniform(3.5, min(10.0, COVER_MM - bone))),
        air=float(rng.beta(2, 1.5)),
    )


def draw_varied_mimics(
    rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape
) -> tuple[np.ndarray, np.ndarray]:
    """Kinks vessels, changes calibres, adds look-alikes; see `Style.mimics`."""
    kink(rng, tree)
    change_calibres(rng, tree)
    fenestrate(rng, tree)
    cones, chalk = draw_mimics(rng, tree, shape)
    cones = np.vstack([cones, widen_forks(rng, tree)])
    chalk = [chalk, draw_plaques(rng, tree, shape.atrophy), draw_deposits(rng, shape)]
    add_neck_arteries(rng, tree, shape)
    add_enhancing(rng, tree, shape)
    veins, balls = draw_distractors(rng, tree, shape)
    tree.update({vein.name: vein for vein in veins})
    return cones, np.vstack([*chalk, balls])


def kink(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Kinks or coils some arteries; their branches follow."""
    for side in SIDES.values():
        for name, first, last, share in KINKS:
            vessel = tree[f"{side} {name}"]
            first = max(first, vessel.station_mm[0])  # the first part of some vessels is missing
            if first < last and rng.random() < share:
                before = vessel.points
                loop(rng, vessel, rng.uniform(first, last))
                follow(tree, vessel, before)


def follow(tree: dict[str, Vessel], parent: Vessel, before: np.ndarray) -> None:
    """Shifts the ends of vessels that were on a parent's course `before` (n, 3) as far as the parent."""
    shift = parent.points - before
    vessels = [vessel for vessel in tree.values() if vessel is not parent]
    ends = np.array([vessel.points[[0, -1]] for vessel in vessels]).reshape(-1, 3)
    apart = np.linalg.norm(before[:, None] - ends, axis=-1)
    nearest = apart.argmin(0)
    joined = apart.min(0) < parent.radius_mm[nearest] + JOINED_MM
    for number in np.flatnonzero(joined):
        vessel = vessels[number // 2]
        away = np.linalg.norm(vessel.points - ends[number], axis=1)
        vessel.points = vessel.points + shift[nearest[number]] * np.exp(-((away / FOLLOW_MM) ** 2))[:, None]


def change_calibres(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Scales the calibre of all arteries, all veins, and smoothly along each vessel; missing vessels stay missing."""
    whole = {vein: np.exp(rng.normal(0, WHOLE_SPREAD)) for vein in (False, True)}
    for vessel in tree.values():
        path = chord_stations(vessel.points)
        knots = np.arange(0, path[-1] + ALONG_MM, ALONG_MM)
        walk = np.interp(path, knots, rng.standard_normal(len(knots)))
        if vessel.radius_mm.max() > STUMP_MM:
            factor = whole[vessel.vein] * np.exp(ALONG_SPREAD * walk)
            vessel.radius_mm = vessel.radius_mm * np.clip(factor, NARROWEST, WIDEST)


def fenestrate(rng: np.random.Generator, tree: dict[str, Vessel]) -> None:
    """Splits some arteries into two channels that rejoin; the second one is a vessel named after the artery."""
    for name, first, last, share in FENESTRATED:
        vessel, middle = tree[name], rng.uniform(first, last)
        half, swing, turn = rng.uniform(2, 5), rng.uniform(0.7, 1.4), rng.standard_normal(3)
        half = min(half, middle - vessel.station_mm[0], vessel.station_mm[-1] - middle)
        inner = np.flatnonzero(np.abs(vessel.station_mm - middle) < half)
        if rng.random() >= share or len(inner) < 4:
            continue
        near = slice(max(inner[0] - 1, 0), inner[-1] + 2)  # the channels join in the points before and after
        radius = vessel.radius_at(middle)
        bow = np.cos(np.pi / 2 * np.clip((vessel.station_mm[near] - middle) / half, -1, 1))[:, None]
        shift = swing * radius * bow * unit(np.cross(vessel.direction_at(middle), turn))
        thick = np.where(bow[:, 0] > 0.3, 0.72, 0.9) * vessel.radius_mm[near]
        other = Vessel(
            f"{name} fenestration", vessel.station_mm[near], vessel.points[near] - shift, thick, mask=vessel.mask[near]
        )
        vessel.points, vessel.radius_mm = vessel.points.copy(), vessel.radius_mm.copy()
        vessel.points[near] += shift
        vessel.radius_mm[near] = thick
        tree[other.name] = other


def widen_forks(rng: np.random.Generator, tree: dict[str, Vessel]) -> np.ndarray:
    """Widens some forks, without a dome; returns infundibula, (k, 8) capsules as in Sac.blobs."""
    cones = []
    for side in SIDES.values():
        for name, station, share in FORKS:
            vessel = tree[f"{side} {name}"]
            if rng.random() < share:
                station = vessel.fork_mm if station is None else station
                swell(vessel, station, rng.uniform(1.5, 3), rng.uniform(0.1, 0.4))
        for name, parent, share in INFUNDIBULA:
            branch, trunk = tree[f"{side} {name}"], tree.get(f"{side} {parent}", tree.get(parent))
            if rng.random() < share and branch.radius_mm[0] > STUMP_MM:
                cones.append(infundibulum(rng, branch, trunk))
    if rng.random() < 0.3:
        swell(tree["basilar"], rng.uniform(0, 25), rng.uniform(2, 4), rng.uniform(0.1, 0.35))
    return np.array(cones).reshape(-1, 8)


VARIED = Style(
    shape=draw_varied_shape,
    mimics=draw_varied_mimics,
    sac=build_varied_sac,
    contrast=draw_varied_contrast,
    fields=VariedFields,
    noise=VariedNoise,
)
