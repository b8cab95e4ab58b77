"""The printed result: numbers by hand or by scikit-learn, '-' for what is not known, labels left out by name."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from aneurysm.labels import LABELS
from aneurysm.metrics import score_table
from aneurysm.scores import (
    UNKNOWN,
    age_bands,
    compared_text,
    each_subgroup,
    score_text,
    series_subgroups,
    subgroup_table,
)


def cases(n: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Truth, scores that know something of it, and two ways to divide the cases."""
    rng = np.random.default_rng(0)
    truth = (rng.random((n, 14)) < 0.3).astype(int)
    subgroups = pd.DataFrame({"modality": rng.choice(["MRA", "CTA"], n), "plane": rng.choice(["axial", "coronal"], n)})
    return truth, truth * 0.5 + rng.normal(0, 0.6, truth.shape), subgroups


def by_hand() -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Four CTA with 3 of 4 pairs of Aneurysm Present in order, and two positive MRA; one location that says it all.

    Over all six, positives have 0.2, 0.4, 0.9, 0.9 and negatives 0.1, 0.3: 7 of 8 pairs in order.
    """
    truth, predicted = np.zeros((6, 14), int), np.zeros((6, 14))
    truth[:, 13], predicted[:, 13] = [0, 1, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.9, 0.9]
    truth[:, 11], predicted[:, 11] = [0, 1, 0, 1, 1, 1], [0, 1, 0, 1, 1, 1]
    return truth, predicted, pd.DataFrame({"modality": ["CTA"] * 4 + ["MRA"] * 2})


def line_of(text: str, start: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(start)).removeprefix(start).split()


def test_subgroups_by_hand():
    table = subgroup_table(*by_hand(), n_samples=20)
    cta, mra = table.loc[("modality", "CTA")], table.loc[("modality", "MRA")]
    assert (cta.n, cta.positives, cta.locations) == (4, 2, 1)
    assert cta.auc == 0.75 and cta.score == pytest.approx(0.5 * 0.75 + 0.5 * 1)
    assert (mra.n, mra.positives, mra.locations) == (2, 2, 0)
    assert mra[["auc", "auc_low", "auc_high", "score", "score_low", "score_high"]].isna().all()


def test_the_text_by_hand():
    text = score_text(*by_hand(), n_samples=20)
    assert line_of(text, "Basilar Tip") == ["4", "1.000", "1.000", "to", "1.000"]
    assert line_of(text, "Aneurysm Present")[:2] == ["4", "0.875"]
    assert line_of(text, "Weighted score")[0] == "0.938"  # (0.875 + 1) / 2 = 0.9375
    assert line_of(text, "Left Middle Cerebral Artery") == ["0", "-", "-"]
    assert line_of(text, "modality MRA") == ["2", "2", "-", "-", "-", "-", "0"]
    cta = line_of(text, "modality CTA")
    assert cta[:3] == ["4", "2", "0.750"] and cta[6] == "0.875"  # (0.75 + 1) / 2
    assert "nan" not in text


def test_the_text_names_the_labels_left_out_of_the_mean():
    truth, predicted, subgroups = cases(60)
    assert "Left out of the mean, without a positive or a negative: none" in score_text(truth, predicted, subgroups, 5)
    truth[:, 2], truth[:, 5] = 0, 1
    text = score_text(truth, predicted, subgroups, 5)
    assert f"Left out of the mean, without a positive or a negative: {LABELS[2]}, {LABELS[5]}\n" in text
    assert "No weighted score" not in text
    truth[:, 13] = 1
    text = score_text(truth, predicted, subgroups, 5)
    assert f": {LABELS[2]}, {LABELS[5]}\nNo weighted score: Aneurysm Present has no" in text


def test_each_subgroup_has_the_auc_of_scikit_learn_on_its_own_cases():
    truth, predicted, subgroups = cases(200)
    table = subgroup_table(truth, predicted, subgroups, n_samples=100)
    assert list(table.index) == [
        ("modality", "CTA"), ("modality", "MRA"), ("plane", "axial"), ("plane", "coronal"),
    ]  # fmt: skip
    for (by, value), row in table.iterrows():
        own = (subgroups[by] == value).to_numpy()
        aucs = [roc_auc_score(truth[own, i], predicted[own, i]) for i in range(14)]
        assert row.auc == pytest.approx(aucs[13]) and row.n == own.sum() and row.positives == truth[own, 13].sum()
        assert row.score == pytest.approx(0.5 * aucs[13] + 0.5 * np.mean(aucs[:13])) and row.locations == 13
        assert row.auc_low < row.auc < row.auc_high and row.score_low < row.score < row.score_high


def test_intervals_of_windows_are_those_of_their_series():
    truth, predicted, subgroups = cases(60)
    subgroups.index = range(100, 160)
    series = pd.Series([f"s{i}" for i in range(60)], index=range(7, 67))
    windows = [table.repeat(20, axis=0) for table in (truth, predicted)]
    window_groups = subgroups.loc[subgroups.index.repeat(20)]
    whole = subgroup_table(truth, predicted, subgroups, 50)
    drawn = subgroup_table(*windows, window_groups, 50, groups=series.repeat(20))
    assert np.allclose(drawn.drop(columns=["n", "positives"]), whole.drop(columns=["n", "positives"]))
    text = score_text(*windows, window_groups, 50, groups=series.repeat(20).tolist())
    expected = score_table(truth, predicted, 50).loc["Aneurysm Present"]
    assert line_of(text, "Aneurysm Present")[2:] == [f"{expected.low:.3f}", "to", f"{expected.high:.3f}"]
    assert text.startswith("1200 cases\n") and "50 bootstrap samples of 60 series, seed 0" in text


def test_an_empty_modality_is_unknown_and_no_case_is_lost():
    table = pd.DataFrame({"modality": ["CTA", None, "CTA", np.nan]})
    found = [(by, value, own.tolist()) for by, value, own in each_subgroup(table)]
    assert found == [
        ("modality", "CTA", [True, False, True, False]),
        ("modality", "unknown", [False, True, False, True]),
    ]


@pytest.mark.parametrize(
    ("age", "band"),
    [(1, "0 to 17"), (17, "0 to 17"), (17.9, "0 to 17"), (18, "18 to 39"), (39, "18 to 39"), (40, "40 to 59"),
     (59, "40 to 59"), (60, "60 to 79"), (79, "60 to 79"), (80, "80 and above"), (89, "80 and above"),
     ("67", "60 to 79"), ("", UNKNOWN), ("unknown", UNKNOWN), (None, UNKNOWN), (np.nan, UNKNOWN), (0, UNKNOWN),
     (-5, UNKNOWN), (999, UNKNOWN), (np.inf, UNKNOWN)],
)  # fmt: skip
def test_an_age_is_in_the_band_of_its_years_and_what_is_none_is_unknown(age, band):
    ((by, value, own),) = each_subgroup(pd.DataFrame({"age": age_bands(pd.Series([age]))}))
    assert (by, value, own.tolist()) == ("age", band, [True])


def test_series_are_divided_by_what_their_table_tells_and_each_counts_once_in_every_way():
    table = pd.DataFrame({"series_type": ["CTA", "MRA", "CTA"], "plane": "axial", "fold": 0}, index=[4, 7, 9])
    assert list(series_subgroups(table)) == ["modality", "plane"]
    messages = table.assign(PatientSex=["Female", None, "Male"], PatientAge=["39", "", "40"])
    found = {(by, value): own.tolist() for by, value, own in each_subgroup(series_subgroups(messages))}
    assert found == {
        ("modality", "CTA"): [True, False, True], ("modality", "MRA"): [False, True, False],
        ("plane", "axial"): [True, True, True],
        ("sex", "Female"): [True, False, False], ("sex", "Male"): [False, False, True],
        ("sex", "unknown"): [False, True, False],
        ("age", "18 to 39"): [True, False, False], ("age", "40 to 59"): [False, False, True],
        ("age", "unknown"): [False, True, False],
    }  # fmt: skip


def test_subgroups_of_another_length_are_refused():
    truth, predicted, subgroups = cases(30)
    with pytest.raises(ValueError, match="for each of 30 cases, found 29"):
        subgroup_table(truth, predicted, subgroups[:29])


def test_answers_side_by_side_by_hand():
    """The answers of by_hand against one that orders all pairs rightly, and against itself."""
    truth, predicted, _ = by_hand()
    right = truth.astype(float)
    text = compared_text(truth, {"all right": right, "some": predicted, "the same": predicted}, n_samples=50)
    assert line_of(text, "all right")[:3] == ["1.000", "1.000", "1.000"]
    assert line_of(text, "all right")[6] == "+0.062"  # 1 less (0.875 + 1) / 2
    assert line_of(text, "some")[:3] == ["0.875", "1.000", "0.938"]
    assert line_of(text, "some")[6:] == ["+0.000", "+0.000", "to", "+0.000"]
    assert len(line_of(text, "the same")) == 6 and "Differences from the same" in text


def test_the_interval_of_a_difference_is_narrower_than_those_of_the_scores():
    truth, predicted, _ = cases(200)
    better = predicted + 0.05 * truth
    found = line_of(compared_text(truth, {"better": better, "plain": predicted}, n_samples=100), "better")
    (low, high), (least, most) = ((float(found[i]), float(found[i + 2])) for i in (3, 7))
    assert 0 < least < float(found[6]) < most and most - least < 0.5 * (high - low)


def test_answers_without_a_score_are_shown_as_unknown():
    truth, predicted, _ = by_hand()
    truth[:, 13] = 1
    assert line_of(compared_text(truth, {"a": predicted, "b": predicted}, n_samples=5), "a")[0] == "-"
