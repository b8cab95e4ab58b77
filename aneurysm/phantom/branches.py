"""Draws small arteries over the brain's surface, so that a MIP looks like a real one."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.shape import BRAIN_HALF, VAULT_CENTRE, HeadShape
from aneurysm.phantom.vessels import LEFT, RIGHT, SIDES, Vessel, location_of, tortuous, vessel_through

# End points in mm of branches by parent, on the brain's surface in the standard head (x: distance from the midline).
MCA_UPPER = [[48, -38, 12], [52, -22, 34], [50, -2, 52], [46, 14, 62], [54, 34, 48], [56, 48, 34]]
MCA_LOWER = [[50, -22, -10], [58, 2, -8], [60, 22, 2], [58, 38, 10], [52, 62, 18], [48, 70, 4]]
ACA_OUTER = [[4, -60, 18], [5, -52, 42], [6, -30, 64], [6, -5, 76], [6, 22, 80], [6, 50, 66]]
PCA_OUTER = [[38, 22, -12], [40, 45, -8], [28, 70, 0], [10, 88, 14], [6, 80, 34]]
CEREBELLAR = {
    "SCA": [[22, 60, 6], [36, 48, -4]],
    "AICA": [[42, 55, -26], [40, 40, -36]],
    "PICA": [[14, 80, -30], [28, 66, -44]],
}


def grow(
    rng: np.random.Generator,
    name: str,
    start: np.ndarray,
    heading: np.ndarray,
    goal: np.ndarray,
    radii: tuple,
    swing_mm,
) -> Vessel:
    """A branch from `start` to `goal` along the brain's curvature, in the standard head; `radii` at both ends."""
    length = np.linalg.norm(goal - start)
    along = np.linspace(0, 1, max(5, int(length / 8)))[:, None]
    path = start + along * (goal - start) + 0.5 * length * heading * along * (1 - along) ** 2
    depth = np.linalg.norm((path - VAULT_CENTRE) / BRAIN_HALF, axis=1, keepdims=True)
    wanted = depth[0] + (depth[-1] - depth[0]) * along**0.8
    blend = np.minimum(1, 1.5 * along)  # near its parent a branch need not follow the curvature
    path = VAULT_CENTRE + (path - VAULT_CENTRE) * (1 + blend * (wanted / depth - 1))
    vessel = tortuous(rng, vessel_through(rng, name, path, radii, 1.5), swing_mm)
    vessel.points = within_brain(vessel.points)
    return vessel


def within_brain(points: np.ndarray) -> np.ndarray:
    """(..., 3) points in the standard head; moves those outside the brain to its surface."""
    depth = np.linalg.norm((points - VAULT_CENTRE) / BRAIN_HALF, axis=-1, keepdims=True)
    return VAULT_CENTRE + (points - VAULT_CENTRE) * np.minimum(1, 0.985 / depth)


def fan(
    rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape, parent: Vessel, goals, first_mm, last_mm, side
) -> None:
    """Adds one branch of `parent` (in this head) per goal, with 2 to 4 twigs each, in the standard head."""
    leave = np.sort(rng.uniform(first_mm, last_mm, len(goals)))
    for number, (goal, station) in enumerate(zip(goals, leave, strict=True)):
        goal = (np.array(goal, float) + rng.normal(0, [2 if goal[0] < 10 else 5, 6, 6])) * [side, 1, 1]
        goal[0] = side * max(2.0, side * goal[0])
        goal = within_brain(goal)
        start, thick = parent.at(station), min(0.75, 0.85 * parent.radius_at(station))
        heading = 0.6 * parent.direction_at(station) + rng.normal(0, 0.3, 3)
        branch = grow(rng, f"{parent.name} {number}", shape.to_standard(start), heading, goal, (thick, 0.32), 1.7)
        for twig in range(rng.integers(2, 5)):
            spot = branch.station_mm[-1] * rng.uniform(0.3, 0.9)
            end = goal + rng.normal(0, [3 if abs(goal[0]) < 10 else 8, 13, 13])
            end[0] = side * max(2.0, side * end[0])
            end = within_brain(end)
            heading = 0.8 * branch.direction_at(spot) + rng.normal(0, 0.3, 3)
            small = (0.8 * branch.radius_at(spot), 0.22)
            twigs = grow(rng, f"{branch.name} {twig}", branch.at(spot), heading, end, small, 1.5)
            tree[twigs.name] = twigs
        tree[branch.name] = branch


def draw_branches(rng: np.random.Generator, tree: dict[str, Vessel], shape: HeadShape) -> None:
    """Adds the inferior MCA trunk and all small arteries of both sides to the tree."""
    branches: dict[str, Vessel] = {}
    for side in (LEFT, RIGHT):
        name = SIDES[side]
        lower = draw_lower_trunk(rng, tree, side)
        for parent, goals, first, last in (
            (tree[f"{name} MCA"], MCA_UPPER, tree[f"{name} MCA"].fork_mm + 8, 70),
            (lower, MCA_LOWER, 4, 34),
            (tree[f"{name} ACA"], ACA_OUTER, 22, 100),
            (tree[f"{name} PCA"], PCA_OUTER, 22, 62),
            *((tree[f"{name} {key}"], goals, 20, 40) for key, goals in CEREBELLAR.items()),
        ):
            fan(rng, branches, shape, parent, goals, first, last, side)
        draw_perforators(rng, tree, side)
    shape.carry(branches)
    tree.update(branches)


def draw_lower_trunk(rng: np.random.Generator, tree: dict[str, Vessel], side: int) -> Vessel:
    """Adds the inferior MCA trunk (M2), and sets `fork_mm` of the MCA to the bifurcation at 12 to 22 mm."""
    name, mca, mirror = SIDES[side], tree[f"{SIDES[side]} MCA"], np.array([side, 1, 1])
    fork = float(np.clip(rng.normal(17, 2.5), 12, 22))
    start, mca.fork_mm = mca.at(fork), fork
    course = np.array([[4, 0, -3.5], [9, 4, -4], [12, 13, -1], [14, 27, 6], [13, 42, 12]], float)
    course += rng.normal(0, [1, 1.5, 1.5], course.shape)
    course[:, 0] = np.minimum(course[:, 0], 43 - abs(start[0]))
    thick = mca.radius_at(fork) * rng.uniform(0.75, 1.0)
    lower = vessel_through(rng, f"{name} M2", np.vstack([start, start + course * mirror]), (thick, 0.6), 1.2)
    tree[lower.name] = tortuous(rng, lower, 0.8).label(location_of("Middle Cerebral Artery", side), 0, 30)
    return lower


def draw_perforators(rng: np.random.Generator, tree: dict[str, Vessel], side: int) -> None:
    """Adds the ophthalmic, anterior choroidal and four lenticulostriate arteries of a side."""
    name, mirror = SIDES[side], np.array([side, 1, 1])
    ica, mca = tree[f"{name} ICA"], tree[f"{name} MCA"]
    for key, parent, station, course, thick in (
        ("ophthalmic", ica, 11, [[12, -13, -6], [19, -26, -10], [27, -38, -8], [24, -52, -6]], 0.55),
        ("choroidal", ica, 4, [[13, 6, -1], [19, 15, 1], [23, 25, 3]], 0.4),
        *(
            (f"lenticulostriate {n}", mca, rng.uniform(5, 14), [[20, 0, 8], [24, 6, 18], [22, 10, 28]], 0.25)
            for n in range(4)
        ),
    ):
        start = parent.at(station)
        knots = np.vstack([start, np.array(course, float) * mirror + rng.normal(0, 1.2, (len(course), 3))])
        vessel = vessel_through(rng, f"{name} {key}", knots, (thick, 0.55 * thick), 0.8)
        tree[vessel.name] = vessel
