"""The average of both systems: by hand, and without the fold that it is judged on."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from aneurysm.labels import LABELS
from aneurysm.metrics import label_aucs, weighted_score
from volume3d.blend import average, best_weight, blend_of


def made(tmp_path, n: int = 120, folds: int = 3, seed: int = 0) -> pd.DataFrame:
    """Two systems whose errors have nothing to do with each other. Returns rows of train_{F}_folds.csv."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 14)) < 0.3).astype(int)
    series = pd.DataFrame(truth, columns=list(LABELS))
    series = series.assign(SeriesInstanceUID=[f"1.2.{i}" for i in range(n)], fold=np.arange(n) % folds, plane="axial")
    for name in ("one", "two"):
        write(tmp_path / f"{name}.csv", series, expit(truth - 1 + rng.normal(0, 1, (n, 14))))
    return series.assign(series_type=np.where(rng.random(n) < 0.5, "CTA", "MRA"))


def write(path, series: pd.DataFrame, predictions: np.ndarray) -> None:
    series[["SeriesInstanceUID", "fold"]].join(pd.DataFrame(predictions, columns=list(LABELS))).to_csv(
        path, index=False
    )


def test_the_average_of_log_odds_by_hand():
    """Odds of 1 to 4 and 4 to 1 meet at 1 to 1; a quarter of the way from 1:1 to 16:1 are odds of 2:1."""
    assert average(np.array([0.2]), np.array([0.8]), 0.5) == pytest.approx([0.5])
    assert average(np.array([0.5]), np.array([16 / 17]), 0.25) == pytest.approx([2 / 3])
    assert average(np.array([0.3, 0.0]), np.array([0.9, 1.0]), 0.0) == pytest.approx([0.3, 0.0], abs=1e-5)
    assert np.isfinite(average(np.zeros(1), np.ones(1), 0.5)).all()


def test_a_shift_of_one_systems_log_odds_changes_no_order():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 50))
    plain = average(expit(one), expit(other), 0.3)
    assert np.array_equal(np.argsort(plain), np.argsort(average(expit(one), expit(other + 2), 0.3)))


def test_the_weight_goes_to_the_system_that_knows_and_is_one_half_where_both_know_alike():
    rng = np.random.default_rng(0)
    truth = (rng.random((60, 14)) < 0.4).astype(int)
    right, noise = truth * 0.5 + 0.2, rng.random((60, 14))
    assert best_weight(truth, noise, right) > 0.8 and best_weight(truth, right, noise) < 0.2
    assert best_weight(truth, right, right) == 0.5
    truth[:, 13] = 1  # no score at all
    assert best_weight(truth, noise, right) == 0.5


def test_each_folds_weight_is_that_of_the_other_folds(tmp_path):
    series = made(tmp_path)
    blend = blend_of(series, tmp_path / "one.csv", tmp_path / "two.csv")
    fold, truth = series.fold.to_numpy(), series[list(LABELS)].to_numpy(int)
    one, two = (pd.read_csv(tmp_path / f"{name}.csv")[list(LABELS)].to_numpy() for name in ("one", "two"))
    for k in range(3):
        others, own = fold != k, fold == k
        scores = {w: weighted_score(label_aucs(truth[others], average(one[others], two[others], w)))
                  for w in np.linspace(0, 1, 11)}  # fmt: skip
        assert scores[blend.weights[k]] == max(scores.values())
        assert np.allclose(blend.blended[own], average(one[own], two[own], blend.weights[k]))
    assert weighted_score(label_aucs(truth, blend.blended)) > max(
        weighted_score(label_aucs(truth, table)) for table in (one, two)
    )


def test_what_is_known_of_a_fold_has_no_say_in_its_own_weight(tmp_path):
    series = made(tmp_path, folds=2)
    before = blend_of(series, tmp_path / "one.csv", tmp_path / "two.csv")
    own = series.fold == 1
    changed = series.copy()
    changed.loc[own, list(LABELS)] = 1 - changed.loc[own, list(LABELS)]
    two = pd.read_csv(tmp_path / "two.csv")
    two.loc[two.fold == 1, list(LABELS)] = np.random.default_rng(5).random((int(own.sum()), 14))
    two.to_csv(tmp_path / "two.csv", index=False)
    after = blend_of(changed, tmp_path / "one.csv", tmp_path / "two.csv")
    assert after.weights[1] == before.weights[1]
    assert after.weights[0] != before.weights[0]


def test_the_text_tells_weights_and_all_three_side_by_side(tmp_path):
    series = made(tmp_path, folds=2)
    text = blend_of(series, tmp_path / "one.csv", tmp_path / "two.csv").text("stage 2")
    assert "in fold 0, " in text and "120 series, 0 more that only one system has answered left out" in text
    lines = [line.split()[0] for line in text.splitlines()[-6:] if line.strip()]
    assert lines[-4:] == ["blend", "volume3d", "stage", "Differences"]
    assert "modality CTA" in text and "plane axial" in text


def test_series_of_one_system_alone_are_left_out_and_counted(tmp_path):
    series = made(tmp_path, folds=2)
    pd.read_csv(tmp_path / "one.csv")[5:].to_csv(tmp_path / "one.csv", index=False)
    blend = blend_of(series, tmp_path / "one.csv", tmp_path / "two.csv")
    assert len(blend.truth) == 115 and blend.n_alone == 5
    assert np.array_equal(blend.truth, series[list(LABELS)].to_numpy(int)[5:])


def test_other_folds_or_a_single_one_are_refused_by_name(tmp_path):
    series = made(tmp_path)
    with pytest.raises(ValueError, match="one.csv: expected the folds of create_folds.py, 1.2.3 in fold 1"):
        blend_of(
            series.assign(fold=series.fold.where(series.index != 3, 1)), tmp_path / "one.csv", tmp_path / "two.csv"
        )
    one = pd.read_csv(tmp_path / "one.csv")
    one[one.fold == 0].to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(ValueError, match="expected two folds that both have answered, found 1"):
        blend_of(series, tmp_path / "one.csv", tmp_path / "two.csv")
