"""Shares of the plan, coverage of the acquisitions, and that nothing but the picture tells a label."""

from collections import Counter

import numpy as np
import pytest

from aneurysm.labels import LOCATIONS, MODALITIES
from aneurysm.phantom.acquisition import PLANE_SHARES, SAC_REGION, draw_acquisition
from aneurysm.phantom.plan import MODALITY_SHARES, PREVALENCE, even, make_plan, pick
from aneurysm.phantom.quirks import draw_quirks


@pytest.fixture(scope="module")
def plan():
    return make_plan(4348, seed=0, clean=False, balanced=False)


def test_a_full_plan_has_the_counts_of_the_competition(plan):
    assert Counter(case.modality for case in plan) == MODALITY_SHARES
    assert Counter(case.plane for case in plan) == PLANE_SHARES
    assert sum(bool(case.locations) for case in plan) == 1864
    assert sum(case.sex == "Female" for case in plan) == pytest.approx(3005, abs=5)
    assert sum(case.enhanced for case in plan) == pytest.approx(322, abs=5)
    assert sum(case.masked for case in plan) == 178
    found = [sum(name in case.locations for case in plan) for name in LOCATIONS]
    assert found == pytest.approx(PREVALENCE, rel=0.02, abs=2)
    several = Counter(len(case.locations) for case in plan)
    assert several[1] / 1864 == pytest.approx(0.87, abs=0.005)
    assert several[2] / 1864 == pytest.approx(0.11, abs=0.005)


def test_labels_are_independent_of_everything_else_in_the_plan(plan):
    def positives(cases):
        return np.mean([bool(case.locations) for case in cases])

    for name in ("modality", "plane", "sex", "enhanced"):
        for value in {getattr(case, name) for case in plan}:
            group = [case for case in plan if getattr(case, name) == value]
            assert positives(group) == pytest.approx(1864 / 4348, abs=0.5 / len(group) ** 0.5), (name, value)
    ages = {found: np.mean([c.age for c in plan if bool(c.locations) == found]) for found in (True, False)}
    assert ages[True] == pytest.approx(ages[False], abs=0.5)


def test_a_balanced_plan_is_half_positive_with_every_location_equally_often():
    plan = make_plan(260, seed=1, clean=True, balanced=True)
    assert sum(bool(case.locations) for case in plan) == 130
    counts = [sum(name in case.locations for case in plan) for name in LOCATIONS]
    assert max(counts) - min(counts) <= 1
    assert not any(case.enhanced for case in plan)


@pytest.mark.parametrize("n_series", [1, 2, 13])
def test_small_plans_have_as_many_cases_as_asked_for(n_series):
    assert len(make_plan(n_series, seed=0, clean=False, balanced=True)) == n_series


def test_a_few_persons_are_imaged_twice_with_the_same_labels(plan):
    persons = {}
    for case in plan:
        persons.setdefault(case.person, []).append(case)
    twins = [cases for cases in persons.values() if len(cases) > 1]
    assert len(twins) == pytest.approx(43, abs=3)
    assert all(a.locations == b.locations and (a.age, a.sex) == (b.age, b.sex) for a, b in twins)
    assert len({case.series_uid for case in plan}) == 4348
    rate = {found: sum(bool(t[0].locations) == found for t in twins) / sum(bool(c.locations) == found for c in plan)
            for found in (True, False)}  # fmt: skip
    assert rate[True] == pytest.approx(rate[False], abs=0.002)


def test_even_values_are_exact_over_all_and_even_within_strata():
    rng = np.random.default_rng(0)
    strata = rng.integers(0, 3, 99)
    values = even(99, [strata], rng)
    assert np.sort(values) == pytest.approx((np.arange(99) + 0.5) / 99)
    assert Counter(pick({"a": 1, "b": 2}, values)) == {"a": 33, "b": 66}
    for stratum in range(3):
        assert (values[strata == stratum] < 1 / 3).mean() == pytest.approx(1 / 3, abs=0.06)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("plane", PLANE_SHARES)
def test_every_acquisition_covers_the_region_where_sacs_lie(modality, plane):
    for seed in range(40):
        drawn = draw_acquisition(np.random.default_rng(seed), modality, plane, 256, 180 if seed % 4 == 0 else None)
        index = drawn.person_grid.to_index(SAC_REGION)
        assert (index > 0).all() and (index < np.array(drawn.grid.shape) - 1).all()
        assert np.linalg.det(drawn.rotation) == pytest.approx(1)
        assert drawn.to_scanner(drawn.person_grid.origin) == pytest.approx(drawn.grid.origin)
        lengths = np.linalg.norm(drawn.grid.matrix, axis=1)
        assert drawn.grid.row_step @ drawn.grid.col_step == pytest.approx(0, abs=1e-9)
        assert lengths.max() < 6.1
        assert seed % 4 or drawn.grid.shape[0] <= 180


@pytest.mark.parametrize(("modality", "median"), [("CTA", 331), ("MRA", 164), ("MRI T1post", 165), ("MRI T2", 29)])
def test_slice_counts_are_near_the_competitions_at_full_size(modality, median):
    counts = [draw_acquisition(np.random.default_rng(s), modality, "axial", 512).grid.shape[0] for s in range(150)]
    assert np.median(counts) == pytest.approx(median, rel=0.15)


def test_quirks_come_in_their_shares_and_clean_series_have_none():
    rng = np.random.default_rng(0)
    drawn = [draw_quirks(rng, "MRI T2", "axial", i % 6 == 0, False) for i in range(3000)]
    assert np.mean([q.syntax == "rle" for q in drawn]) == pytest.approx(0.85, abs=0.03)
    assert {q.enhanced for q in drawn} == {"", "groups", "rewritten", "bare"}
    assert all(q.order == "ascending" for q in drawn if q.enhanced == "bare")
    for name, share in (("scout", 0.0125), ("two_times", 0.004), ("wrong_spacing", 0.025), ("inverted", 0.005)):
        assert np.mean([getattr(q, name) for q in drawn]) == pytest.approx(share, abs=0.008)
    assert draw_quirks(rng, "CTA", "axial", False, True).names == ""
