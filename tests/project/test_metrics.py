"""The score by hand and by scikit-learn; what has no AUC is left out and named."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aneurysm.labels import LABELS
from aneurysm.metrics import bootstrap_aucs, label_aucs, left_out, score_table, weighted_score


def tables(n_series: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that know something of them, with ties."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n_series, 14)) < 0.3).astype(int)
    return truth, np.round(truth * 0.5 + rng.normal(0, 0.6, truth.shape), 1)


def test_four_series_by_hand():
    truth, predicted = np.zeros((4, 14), int), np.tile([[0.1], [0.2], [0.3], [0.4]], 14)
    truth[2:] = 1  # both positives above both negatives
    truth[:, 0] = [1, 1, 0, 0]  # both below
    truth[:, 13] = [0, 1, 0, 1]  # three of four pairs in order
    aucs = label_aucs(truth, predicted)
    assert aucs.tolist() == [0.0] + [1.0] * 12 + [0.75]
    assert weighted_score(aucs) == pytest.approx(0.5 * 0.75 + 0.5 * 12 / 13)


def test_a_constant_column_scores_a_half():
    truth, predicted = tables(50)
    predicted[:, 3] = 0.2
    assert label_aucs(truth, predicted)[3] == 0.5


def test_a_label_without_a_positive_or_a_negative_is_named_and_left_out_of_the_mean():
    truth, predicted = tables(60)
    truth[:, 2], truth[:, 5] = 0, 1
    aucs = label_aucs(truth, predicted)
    assert left_out(truth) == [LABELS[2], LABELS[5]] and np.isnan(aucs[[2, 5]]).all()
    others = [roc_auc_score(truth[:, i], predicted[:, i]) for i in range(13) if i not in (2, 5)]
    assert weighted_score(aucs) == pytest.approx(0.5 * aucs[13] + 0.5 * np.mean(others))
    table = score_table(truth, predicted, n_samples=20)
    assert np.isnan(table.auc[LABELS[2]]) and np.isfinite(table.auc["Weighted score"])


def test_without_any_location_there_is_no_score():
    truth, predicted = tables(30)
    truth[:, :13] = 0
    assert np.isnan(weighted_score(label_aucs(truth, predicted)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prediction_that_is_no_number_is_refused_by_the_label_s_name(bad):
    truth, predicted = tables(30)
    predicted[4, 6] = bad
    with pytest.raises(ValueError, match="found NaN or infinity for Anterior Communicating Artery"):
        label_aucs(truth, predicted)


@pytest.mark.parametrize("bad", [np.nan, 0.5, 2])
def test_a_truth_that_is_not_0_or_1_is_refused_by_the_label_s_name(bad):
    truth, predicted = tables(30)
    truth = truth.astype(float)
    truth[4, 6] = bad
    with pytest.raises(ValueError, match="found other values for Anterior Communicating Artery"):
        label_aucs(truth, predicted)


def test_tables_of_another_shape_are_refused():
    truth, predicted = tables(30)
    with pytest.raises(ValueError, match=r"expected two tables of \(series, 14\)"):
        label_aucs(truth, predicted[:, :13])


def test_bootstrap_aucs_are_those_of_scikit_learn_on_the_same_draws():
    truth, predicted = tables(40)
    samples = bootstrap_aucs(truth, predicted, n_samples=5, seed=3)
    drawn = np.random.default_rng(3).integers(0, 40, (5, 40))
    for sample, rows in zip(samples, drawn, strict=True):
        expected = [roc_auc_score(truth[rows, i], predicted[rows, i]) for i in range(14)]
        assert sample == pytest.approx(expected)


def test_the_interval_holds_the_score_and_narrows_with_more_series():
    widths = []
    for n_series in (100, 1600):
        table = score_table(*tables(n_series), n_samples=200)
        assert ((table.low <= table.auc) & (table.auc <= table.high)).all()
        widths.append(table.high["Weighted score"] - table.low["Weighted score"])
    assert widths[1] < 0.4 * widths[0]  # four times narrower by the square root law


def test_whole_groups_are_drawn_as_scikit_learn_says_of_the_same_draws():
    truth, predicted = tables(40)
    groups = [f"series {i // 3}" for i in range(40)]  # the last has one row only
    members = [np.flatnonzero(np.array(groups) == f"series {i}") for i in range(14)]
    samples = bootstrap_aucs(truth, predicted, n_samples=4, seed=3, groups=groups)
    for sample, drawn in zip(samples, np.random.default_rng(3).integers(0, 14, (4, 14)), strict=True):
        rows = np.concatenate([members[i] for i in drawn])
        expected = [roc_auc_score(truth[rows, i], predicted[rows, i]) for i in range(14)]
        assert sample == pytest.approx(expected)


def test_two_groups_of_two_by_hand():
    truth = np.tile([[1], [0], [1], [0]], 14)
    predicted = np.tile([[0.2], [0.1], [0.3], [0.4]], 14)
    # a alone: 0.2 > 0.1, all pairs in order; b alone: 0.3 < 0.4, none; both: two of four.
    samples = bootstrap_aucs(truth, predicted, n_samples=50, groups=["a", "a", "b", "b"])
    assert set(samples[:, 0]) == {0.0, 0.5, 1.0}
    alone = bootstrap_aucs(truth, predicted, n_samples=50)
    assert np.isnan(alone).any(), "rows drawn alone now and then leave no positive or no negative"


def test_repeating_every_row_within_its_group_changes_no_interval():
    truth, predicted = tables(50)
    once = score_table(truth, predicted, n_samples=50)
    groups = np.repeat(np.arange(50), 10)
    tenfold = score_table(truth.repeat(10, axis=0), predicted.repeat(10, axis=0), n_samples=50, groups=groups)
    assert np.allclose(once[["auc", "low", "high"]], tenfold[["auc", "low", "high"]])
    assert (tenfold.n == 500).all() and (tenfold.positives == 10 * once.positives).all()


@pytest.mark.parametrize("groups", [["a"] * 29, ["a"] * 29 + [None]])
def test_a_row_without_a_group_is_refused(groups):
    with pytest.raises(ValueError, match="expected a group for each of 30 rows, found 29"):
        bootstrap_aucs(*tables(30), groups=groups)
