"""Draws veins and dural sinuses; as they follow the skull, in the standard head, and maps them to this head."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.shape import VAULT_CENTRE, VAULT_HALF, HeadShape
from aneurysm.phantom.vessels import LEFT, RIGHT, SIDES, Vessel, tortuous, vessel_through

TORCULA = np.array([0.0, 94.0, -6.0])


def on_vault(angles_deg: np.ndarray, inset_mm: float) -> np.ndarray:
    """(n, 3) midline points `inset_mm` inside the vault; 0 degrees is the front, 90 the vertex, 180 the back."""
    angle = np.deg2rad(angles_deg)
    half = VAULT_HALF - inset_mm
    return VAULT_CENTRE + np.stack([0 * angle, -half[1] * np.cos(angle), half[2] * np.sin(angle)], axis=1)


def draw_veins(rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape) -> None:
    """Adds all veins to the tree."""
    veins = [*draw_midline(rng), *draw_cortical(rng)]
    dominant = rng.choice([LEFT, RIGHT, 0], p=[0.2, 0.45, 0.35])
    for side in (LEFT, RIGHT):
        flow = 1.0 if dominant in (0, side) else rng.uniform(0.35, 0.8)
        veins += [*draw_lateral(rng, side, flow), *draw_deep(rng, side)]
    made = {vein.name: vein for vein in veins}
    shape.carry(made)
    tree.update(made)


def draw_midline(rng: np.random.Generator) -> list[Vessel]:
    """Superior and inferior sagittal sinus, and the vein of Galen with the straight sinus."""
    arch = np.vstack([on_vault(np.linspace(8, 172, 12), 2.5), TORCULA])
    arch[:, 0] += rng.normal(0, 0.7, len(arch))
    straight = np.array([[0, 40, 19], [0, 46, 22], [0, 60, 14], [0, 78, 2], TORCULA])
    inferior = np.array([[0, -25, 42], [0, 0, 50], [0, 25, 46], [0, 42, 30], [0, 46, 22]])
    return [
        vessel_through(rng, "sagittal sinus", arch, np.linspace(1.6, 4.2, len(arch)), 0.6, vein=True),
        vessel_through(rng, "straight sinus", straight, (1.8, 2.0, 2.2, 2.3, 2.6), 0.6, vein=True),
        vessel_through(rng, "inferior sagittal sinus", inferior, (0.6, 1.1), 0.8, vein=True),
    ]


def draw_lateral(rng: np.random.Generator, side: int, flow: float) -> list[Vessel]:
    """Sinuses from the torcula to the jugular vein, and the veins around the cavernous sinus, of a side.

    `flow` scales the radii of the former."""
    mirror, name = np.array([side, 1, 1]), SIDES[side]
    drain = [
        TORCULA,
        [20, 92, -8],
        [42, 76, -9],
        [55, 55, -11],
        [56, 42, -17],
        [48, 33, -28],
        [36, 29, -37],
        [27, 20, -38],
    ]
    neck = [[28, 17, -52], [29, 16, -75], [30, 16, -105], [29, 16, -150], [26, 18, -225]]
    knots = np.array(drain + neck, float) * mirror + np.vstack([[0, 0, 0], rng.normal(0, 1.0, (12, 3))])
    thick = flow * np.array([3, 3.2, 3.4, 3.6, 3.8, 3.8, 4, 4.6, 4.6, 4.8, 5.2, 5.5, 6.0])
    cavernous = (
        np.array([[14, -16, -8], [15, -6, -10], [14, 4, -11], [16, 10, -15], [24, 18, -24], [26, 20, -34]]) * mirror
    )
    ridge = np.array([[14, 9, -10], [30, 20, -12], [46, 31, -12], [55, 42, -13]]) * mirror
    sphenoid = np.array([[14, -12, -8], [26, -18, -6], [38, -22, 0], [48, -16, 6]]) * mirror
    return [
        vessel_through(rng, f"{name} transverse sinus", knots, thick, 1.0, vein=True),
        vessel_through(rng, f"{name} cavernous sinus", cavernous, (2.0, 2.6, 2.4, 1.4, 1.0, 0.9), 0.7, vein=True),
        vessel_through(rng, f"{name} petrosal sinus", ridge, (0.9, 0.9), 0.7, vein=True),
        vessel_through(rng, f"{name} sphenoparietal vein", sphenoid, (1.0, 0.8), 1.0, vein=True),
    ]


def draw_deep(rng: np.random.Generator, side: int) -> list[Vessel]:
    """Internal cerebral vein, basal vein and superficial Sylvian vein of a side."""
    mirror, name = np.array([side, 1, 1]), SIDES[side]
    internal = np.array([[5, 6, 20], [2, 14, 21], [2, 28, 21], [1, 40, 19]]) * mirror
    basal = np.array([[14, 2, 3], [17, 12, 4], [19, 24, 5], [15, 34, 10], [1, 41, 19]]) * mirror
    sylvian = np.array([[44, -22, -4], [54, -6, 4], [59, 12, 10], [60, 28, 18], [58, 42, 30]]) * mirror
    made = []
    for key, knots, radii, spread in (
        ("internal cerebral vein", internal, (0.7, 1.1), 0.5),
        ("basal vein", basal, (0.6, 1.1), 1.2),
        ("Sylvian vein", sylvian, (1.1, 0.6), 2.0),
    ):
        knots = knots + np.vstack([rng.normal(0, 1.0, (len(knots) - 1, 3)), [0, 0, 0]])
        made.append(tortuous(rng, vessel_through(rng, f"{name} {key}", knots, radii, spread, vein=True), 0.6))
    return made


def draw_cortical(rng: np.random.Generator) -> list[Vessel]:
    """14 veins of the convexity, which drain into the superior sagittal sinus."""
    made = []
    for number in range(14):
        side, angle = (LEFT, RIGHT)[number % 2], rng.uniform(40, 150)
        top = on_vault(np.array([angle]), 3.0)[0]
        tilt = np.deg2rad(np.linspace(4, rng.uniform(40, 75), 6))
        arm = top - VAULT_CENTRE
        half = VAULT_HALF - 3.5
        knots = VAULT_CENTRE + arm * np.cos(tilt)[:, None]
        knots[:, 0] = side * half[0] * np.sin(tilt)
        knots[:, 1] += np.linspace(0, rng.normal(-6, 10), 6)
        scale = np.linalg.norm((knots - VAULT_CENTRE) / half, axis=1, keepdims=True)
        knots = VAULT_CENTRE + (knots - VAULT_CENTRE) / scale
        vein = vessel_through(rng, f"cortical vein {number}", knots, (rng.uniform(0.8, 1.5), 0.4), 2.0, vein=True)
        made.append(tortuous(rng, vein, 1.3))
    return made
