"""Plans a data set: who is imaged how, with exactly the shares of the competition's train.csv.

Modality, plane, age, sex and multi-frame files are dealt evenly within positives and negatives, so that none of them
tells anything about a label, in small data sets either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aneurysm.labels import LOCATIONS, MODALITIES
from aneurysm.phantom.acquisition import PLANE_SHARES
from aneurysm.phantom.encoding import make_uid
from aneurysm.phantom.quirks import ENHANCED_SHARES

MODALITY_SHARES = dict(zip(MODALITIES, (1808, 1252, 983, 305), strict=True))
POSITIVES, SERIES = 1864, 4348
PREVALENCE = (78, 98, 331, 277, 219, 294, 363, 46, 56, 86, 101, 110, 113)
ANEURYSMS_SHARES = {1: 0.87, 2: 0.11, 3: 0.016, 4: 0.004}
WOMEN_SHARE = 3005 / 4348
MASK_SHARE = 178 / 4348
TWIN_SHARE = 0.02
AGES = (18, 89)


@dataclass(frozen=True)
class Case:
    """One series to make; a second series may show the same `person`."""

    number: int
    series_uid: str
    person: int
    modality: str
    plane: str
    locations: tuple[str, ...]
    age: int
    sex: str
    enhanced: bool
    masked: bool


def make_plan(n_series: int, seed: int, clean: bool, balanced: bool) -> list[Case]:
    """The cases in random order; determined by n_series, seed, clean and balanced."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    modality = pick(MODALITY_SHARES, even(n_series, [], rng))
    positive = even(n_series, [modality], rng) < (0.5 if balanced else POSITIVES / SERIES)
    strata = [modality, positive]
    counts = np.where(positive, pick(ANEURYSMS_SHARES, even(n_series, strata, rng)), 0)
    locations = deal_locations(counts, [1] * len(LOCATIONS) if balanced else PREVALENCE, modality, rng)
    plane = pick(PLANE_SHARES, even(n_series, strata, rng))
    # Only axial series are multi-frame; they get the whole share.
    enhanced_share = np.array([ENHANCED_SHARES[m] for m in modality]) * SERIES / PLANE_SHARES["axial"]
    enhanced = (even(n_series, strata, rng) < enhanced_share) & (plane == "axial") & (not clean)
    women = even(n_series, strata, rng) < WOMEN_SHARE
    # Most frequent at 58 years, rarer towards both ends, as in the competition.
    ages = np.quantile(np.clip(np.random.default_rng(1).normal(58, 14, 20000), *AGES), even(n_series, strata, rng))
    cases = [
        Case(
            i, make_uid("phantom", seed, i), i, str(modality[i]), str(plane[i]), locations[i], int(round(ages[i])),
            "Female" if women[i] else "Male", bool(enhanced[i]), False,
        )
        for i in range(n_series)
    ]  # fmt: skip
    return _with_twins(_with_masks(cases, positive, rng), rng)


def even(n: int, strata: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(n,) values in (0, 1), evenly spread over all and over every stratum, in random order within a stratum.

    Each stratum is a run of one golden-ratio sequence, of which any run is spread evenly; ranks make the whole exact.
    """
    shuffled = rng.permutation(n)
    order = (
        shuffled[np.lexsort([np.unique(s, return_inverse=True)[1][shuffled] for s in reversed(strata)])]
        if (strata)
        else shuffled
    )
    golden = (rng.random() + np.arange(n) * (np.sqrt(5) - 1) / 2) % 1
    values = np.empty(n)
    values[order] = (np.argsort(np.argsort(golden)) + 0.5) / n
    return values


def pick(shares: dict, uniform: np.ndarray) -> np.ndarray:
    """The key of `shares` (any positive weights) for each uniform value in (0, 1)."""
    edges = np.cumsum(list(shares.values())) / sum(shares.values())
    return np.array(list(shares))[np.minimum(np.searchsorted(edges, uniform), len(shares) - 1)]


def deal_locations(
    counts: np.ndarray, weights: Sequence[float], modality: np.ndarray, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    """counts[i] different locations for series i, with frequencies `weights`, balanced within each modality."""
    total = int(counts.sum())
    left = np.bincount(
        np.asarray(pick(dict(enumerate(weights)), (np.arange(total) + 0.5) / max(total, 1)), int),
        minlength=len(weights),
    )
    chosen: list[tuple[str, ...]] = [()] * len(counts)
    for i in sorted(np.flatnonzero(counts > 1), key=lambda i: -counts[i]):
        # Series with several draw first, without repeats; the tiny addition is for data sets of a few series.
        drawn = rng.choice(len(left), counts[i], replace=False, p=(left + 1e-9) / (left + 1e-9).sum())
        left[drawn] = np.maximum(left[drawn] - 1, 0)
        chosen[i] = tuple(LOCATIONS[k] for k in sorted(drawn))
    single = np.flatnonzero(counts == 1)
    weights_left = {k: n for k, n in enumerate(left) if n} or {0: 1}
    for i, k in zip(single, pick(weights_left, even(len(single), [modality[single]], rng)), strict=True):
        chosen[i] = (LOCATIONS[k],)
    return chosen


def _with_masks(cases: list[Case], positive: np.ndarray, rng: np.random.Generator) -> list[Case]:
    """Gives vessel masks to some axial single-frame series: their share of all, and at least 2 of 24."""
    able = [i for i, case in enumerate(cases) if case.plane == "axial" and not case.enhanced]
    wanted = max(round(MASK_SHARE * len(cases)), 2 if len(cases) >= 24 else 0)
    ranks = even(len(able), [positive[able]], rng)
    for i in np.argsort(ranks)[:wanted]:
        cases[able[i]] = replace(cases[able[i]], masked=True)
    return cases


def _with_twins(cases: list[Case], rng: np.random.Generator) -> list[Case]:
    """Makes a few series second scans of the person of another series with the same labels."""
    groups: dict[tuple, list[int]] = {}
    for i in rng.permutation(len(cases)):
        groups.setdefault(cases[i].locations, []).append(int(i))
    pairs = [pair for group in groups.values() for pair in zip(group[::2], group[1::2], strict=False)]
    # Negatives are one large group: pairs must be as frequent in both classes.
    for positive in (False, True):
        of_class = [pair for pair in pairs if bool(cases[pair[0]].locations) == positive]
        n_class = sum(bool(case.locations) == positive for case in cases)
        for k in rng.permutation(len(of_class))[: round(n_class * TWIN_SHARE / 2)]:
            first, second = (cases[i] for i in of_class[k])
            again = replace(second, person=first.person, age=first.age, sex=first.sex)
            cases[of_class[k][1]] = again
    return cases
