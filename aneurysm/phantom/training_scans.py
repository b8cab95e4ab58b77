"""Endless phantom scans for training: each person is drawn once, scanned several times, then discarded."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from aneurysm.cache.config import CacheSettings
from aneurysm.labels import LOCATIONS
from aneurysm.phantom.acquisition import PLANE_SHARES, covered, draw_acquisition
from aneurysm.phantom.config import FIRST_SEED, PhantomScansConfig
from aneurysm.phantom.person import Person, draw_person
from aneurysm.phantom.plan import MODALITY_SHARES
from aneurysm.phantom.render import Scan
from aneurysm.phantom.sacs import Sac, draw_sacs
from aneurysm.phantom.shown import ShownScan
from aneurysm.phantom.style import USUAL
from aneurysm.phantom.varied import VARIED

PERSON, SCAN, STYLE = 10, 11, 12  # random streams, apart from those of make_phantoms.py


def training_scan(
    seed: int, number: int, scans: PhantomScansConfig, settings: CacheSettings, plane: str | None = None
) -> tuple[ShownScan, list[Sac], np.random.Generator]:
    """Scan `number` of a seed, which with the configuration decide all of it; all sacs that were drawn, those taken
    away again among them; and the random numbers for what is cut out of it.

    `plane` is the one that it is cut in, where that is not its own. Raises ValueError for a seed that is for
    evaluation.
    """
    if seed < FIRST_SEED:
        raise ValueError(f"seed {seed}: expected at least {FIRST_SEED}, those below are for evaluation")
    person = _person(seed, number // scans.scans_per_person, scans.varied_share)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SCAN, number)))
    person, sites = with_sacs(person, scans, rng)
    return draw_scan(person, scans, settings, rng, plane), sites, rng


@lru_cache(maxsize=2)
def _person(seed: int, number: int, varied_share: float) -> Person:
    """Without sacs."""
    varied = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(STYLE, number))).random() < varied_share
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PERSON, number)))
    return draw_person(rng, (), VARIED if varied else USUAL)


def with_sacs(person: Person, scans: PhantomScansConfig, rng: np.random.Generator) -> tuple[Person, list[Sac]]:
    """The person with sacs, and all sacs that were drawn, including those removed again.

    Raises ValueError where twenty draws leave the region that every acquisition covers.
    """
    for _ in range(20):
        locations = rng.choice(len(LOCATIONS), scans.sacs, replace=False)
        sacs = draw_sacs(rng, person.vessels, [LOCATIONS[i] for i in locations], person.style.sac)
        if covered(np.array([sac.centre for sac in sacs])):
            break
    else:
        raise ValueError(f"expected sacs in the covered region, found {sacs}")
    kept = rng.random(len(sacs)) >= scans.ghost_share
    return replace(person, sacs=[sac for sac, own in zip(sacs, kept, strict=True) if own]), sacs


def draw_scan(
    person: Person, scans: PhantomScansConfig, settings: CacheSettings, rng: np.random.Generator,
    plane: str | None = None,
) -> ShownScan:  # fmt: skip
    """One scan of a person, cut in `plane` or in its own."""
    modality, acquired = _pick(MODALITY_SHARES, rng), _pick(PLANE_SHARES, rng)
    acquisition = draw_acquisition(rng, modality, acquired, int(rng.choice(scans.sizes)), pose=scans.pose)
    return ShownScan(Scan(person, acquisition.person_grid, modality, rng), acquisition, settings, plane)


def _pick(shares: dict[str, float], rng: np.random.Generator) -> str:
    weights = np.array(list(shares.values()), float)
    return str(rng.choice(list(shares), p=weights / weights.sum()))
