"""One synthetic person: vessels, aneurysm sacs and head shape, drawn from a random generator.

The person's frame is in LPS millimetres: x to the patient's left, y to the back, z to the vertex. Its origin is midway
between the two ICA termini.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aneurysm.phantom.branches import draw_branches
from aneurysm.phantom.carotid import draw_carotids, draw_neck
from aneurysm.phantom.mimics import draw_loops
from aneurysm.phantom.posterior import draw_posterior
from aneurysm.phantom.sacs import Sac, draw_sacs
from aneurysm.phantom.shape import HeadShape
from aneurysm.phantom.style import USUAL, Style
from aneurysm.phantom.veins import draw_veins
from aneurysm.phantom.vessels import Vessel


@dataclass(frozen=True)
class Person:
    """A head and its vessels, in the person's frame.

    vessels by name, such as "left ICA"
    sacs    the aneurysms, in the order of the requested locations
    cones   (k, 8) infundibula: capsules as in Sac.blobs
    chalk   (k, 8) calcifications, likewise
    shape   size and shape of the head
    style   the functions that draw and scan the person
    """

    vessels: dict[str, Vessel]
    sacs: list[Sac]
    cones: np.ndarray
    chalk: np.ndarray
    shape: HeadShape
    style: Style = USUAL


def draw_person(rng: np.random.Generator, locations: Sequence[str], style: Style = USUAL) -> Person:
    """Draws a person with one sac per entry of `locations` (each one of LOCATIONS; empty for no sacs).

    Sacs have their own random stream, so that all else is byte-identical for any `locations`.
    """
    rest, own = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=2))
    shape = style.shape(rest)
    tree = draw_carotids(rest)
    draw_loops(rest, tree)
    draw_posterior(rest, tree)
    draw_neck(rest, tree, shape)
    draw_branches(rest, tree, shape)
    draw_veins(rest, tree, shape)
    cones, chalk = style.mimics(rest, tree, shape)
    return Person(tree, draw_sacs(own, tree, locations, style.sac), cones, chalk, shape, style)
