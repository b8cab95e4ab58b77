"""The time of a submission and how it is shared among the series, by hand; and its settings."""

from pathlib import Path

import numpy as np
import pytest

from aneurysm.inference.clock import LONGEST_S, Clock
from aneurysm.inference.kaggle_settings import KaggleSettings, find_bundle, read_settings


class Watch:
    """A clock that is set by hand."""

    def __init__(self):
        self.now_s = 500.0

    def __call__(self) -> float:
        return self.now_s


def asked(total_s: float, n_expected: int, *took_s: float) -> float:
    """The budget of the next series, after some that took so long."""
    watch = Watch()
    clock = Clock(total_s, n_expected, watch)
    for seconds in took_s:
        clock.next_budget_s()
        watch.now_s += seconds
    return clock.next_budget_s()


def test_at_an_even_pace_each_series_may_take_an_equal_share():
    assert asked(1000, 10) == pytest.approx(100)
    assert asked(1000, 10, 100, 100) == pytest.approx(100)


def test_a_series_may_take_what_earlier_ones_have_saved():
    assert asked(1000, 10, 20, 30) == pytest.approx(80 + 70 + 100)  # an equal share of what is left would be 118.75


def test_after_a_slow_series_the_others_share_what_is_left():
    assert asked(1000, 10, 460) == pytest.approx(540 / 9)


def test_of_more_series_than_expected_three_per_cent_more_are_always_assumed():
    assert asked(1000, 100, *[9.9] * 100) == pytest.approx(3.333, abs=1e-3)  # the 10 s that are left, for 3 more
    # After 100 series in 400 s a 101st of 103 may end at 1000 / 103 * 101 = 980.583 s.
    assert asked(1000, 100, *[4.0] * 100) == pytest.approx(580.583, abs=1e-3)


def test_no_series_may_take_longer_than_the_gateway_waits_and_none_anything_when_the_time_is_over():
    assert asked(40000, 3) == LONGEST_S < 30 * 60
    assert asked(1000, 10, 1001) == 0 and asked(-5, 10) == 0


@pytest.mark.parametrize("n_series", [2400, 2500, 2800, 5000])
def test_the_time_is_never_overrun_by_series_that_take_no_more_than_their_budget(n_series):
    watch = Watch()
    clock = Clock(41400, 2500, watch)
    wanted_s = np.random.default_rng(0).lognormal(2.5, 1.0, n_series)  # 20 s in the mean, 16.56 s are there
    given_s = []
    for seconds in wanted_s:
        given_s.append(min(clock.next_budget_s(), seconds))
        watch.now_s += given_s[-1]
    assert sum(given_s) <= 41400 and min(given_s) > 0


def test_settings_are_kaggles_unless_the_environment_says_otherwise():
    assert read_settings({"PATH": "/bin"}) == KaggleSettings()
    assert KaggleSettings().shared == Path("/kaggle/shared") and KaggleSettings().total_s == 11.5 * 3600
    given = {"ANEURYSM_SHARED": "", "ANEURYSM_OUT": "here", "ANEURYSM_N_SERIES": "7", "ANEURYSM_HOURS": "0.75"}
    found = read_settings(given)
    assert (found.shared, found.out, found.n_series, found.total_s) == (None, Path("here"), 7, 900)


def test_a_misspelt_or_ill_typed_variable_is_named():
    with pytest.raises(ValueError, match="ANEURYSM_SHARE: expected one of ANEURYSM_INPUT, "):
        read_settings({"ANEURYSM_SHARE": "x"})
    with pytest.raises(ValueError, match="ANEURYSM_N_SERIES: expected int, found 'many'"):
        read_settings({"ANEURYSM_N_SERIES": "many"})


def test_the_docstring_of_the_script_names_every_variable_and_its_default():
    import kaggle_inference

    rows = [line.split() for line in kaggle_inference.__doc__.splitlines() if line.startswith("    ANEURYSM_")][1:]
    assert len(rows) == len(KaggleSettings.__dataclass_fields__)
    defaults = {row[0]: row[1] for row in rows if row[0] not in ("ANEURYSM_BUNDLE", "ANEURYSM_THREADS")}
    assert read_settings(defaults) == KaggleSettings()


def test_the_only_bundle_below_the_input_is_found_and_the_competitions_series_are_not_searched(tmp_path):
    settings = KaggleSettings(input=tmp_path)
    for name in ("competition/series/1.2", "model/bundle", "other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "card.json").touch()
    for name in ("competition/series/1.2", "model/bundle"):
        (tmp_path / name / "00_stage1.safetensors").touch()
    assert find_bundle(settings) == tmp_path / "model" / "bundle"
    (tmp_path / "other" / "a.safetensors").touch()
    with pytest.raises(ValueError, match="expected one bundle or ANEURYSM_BUNDLE, found .*bundle, .*other"):
        find_bundle(settings)
    assert find_bundle(KaggleSettings(bundle=tmp_path / "other")) == tmp_path / "other"
    with pytest.raises(ValueError, match="expected one bundle or ANEURYSM_BUNDLE, found none"):
        find_bundle(KaggleSettings(input=tmp_path / "competition"))
