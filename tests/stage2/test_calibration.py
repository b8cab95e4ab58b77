"""Temperatures of stage 2's held-out answers, the errors before and after, and the option of eval_stage2.py."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.calibration import calibration_curve

from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.report.drawing import DPI, WIDTH_IN
from aneurysm.report.figures import reliability_figure
from aneurysm.stage2.calibration import (
    calibrate,
    calibration_error,
    chance_error,
    errors_table,
    fit_temperature,
    out_of_fold_temperatures,
    reliability,
)
from aneurysm.stage2.config import NetConfig, Stage2Config
from aneurysm.stage2.dataset import SliceLocalizers
from aneurysm.stage2.evaluate import Evaluation
from aneurysm.stage2.temperature import at_temperature
from aneurysm.stage2.training import train_fold
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from eval_stage2 import EvalStage2Config, main
from tests.stage2_series import make_series

TINY = Stage2Config(
    net=NetConfig(width=16, depth=1, heads=2),
    training=TrainingConfig(epochs=1, batch_size=8, ema_decay=0.9, workers=0, precision="fp32"),
)


def too_sure(n: int, times: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth (n, 14) drawn from log-odds, and the probabilities of `times` these log-odds."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1, 1.5, (n, 14))
    return (rng.random(odds.shape) < expit(odds)).astype(int), expit(times * odds)


def evaluation_of(truth: np.ndarray, predicted: np.ndarray, fold: np.ndarray) -> Evaluation:
    table = pd.DataFrame(truth, columns=list(LABELS))
    table.insert(0, "SeriesInstanceUID", [f"s{i}" for i in range(len(truth))])
    return Evaluation(table.assign(fold=fold), predicted, predicted, 0)


@pytest.mark.parametrize("times", [2.0, 1.0, 0.5])
def test_the_temperature_is_how_many_times_too_large_the_log_odds_were(times):
    assert fit_temperature(*too_sure(4000, times)) == pytest.approx(times, rel=0.03)


def test_the_temperature_of_answers_of_one_height_by_hand():
    """1 in 10 is positive where 1 in 82 was said: log-odds of -log 9 instead of -log 81, which is twice that."""
    truth = np.zeros((10, 14), int)
    truth[0] = 1
    assert fit_temperature(truth, np.full((10, 14), 1 / 82)) == pytest.approx(2, abs=1e-3)


def test_probabilities_at_a_temperature_by_hand():
    """Odds of 9 to 1 and 1 to 81 at temperature 2: 3 to 1 and 1 to 9."""
    assert at_temperature(np.array([0.9, 1 / 82, 0.5]), 2.0) == pytest.approx([0.75, 0.1, 0.5])


def test_labels_of_a_fold_do_not_change_its_own_temperature_but_those_of_others():
    truth, predicted = too_sure(90, 2.0)
    fold = np.repeat([0, 1, 4], 30)
    flipped = truth.copy()
    flipped[fold == 1] = 1 - flipped[fold == 1]
    before, after = (out_of_fold_temperatures(table, predicted, fold) for table in (truth, flipped))
    assert list(before) == [0, 1, 4] and before[1] == after[1]
    assert abs(before[0] - after[0]) > 0.1 and abs(before[4] - after[4]) > 0.1


def test_each_fold_gets_the_temperature_of_the_others_and_keeps_its_order():
    (truth, sure), (_, right) = (too_sure(2000, times) for times in (2.0, 1.0))
    fold = np.arange(2000) % 2
    evaluation = evaluation_of(truth, np.where(fold[:, None] == 0, sure, right), fold)
    scaled = calibrate(evaluation)
    assert scaled.temperatures == {0: pytest.approx(1, rel=0.1), 1: pytest.approx(2, rel=0.1)}
    for k in (0, 1):
        own = fold == k
        expected = at_temperature(evaluation.stage2[own], scaled.temperatures[k])
        np.testing.assert_array_equal(scaled.after.stage2[own], expected)
        orders = [np.argsort(predictions[own], axis=0) for predictions in (evaluation.stage2, scaled.after.stage2)]
        np.testing.assert_array_equal(*orders)
    assert scaled.after.series is evaluation.series and scaled.before is evaluation


def test_one_fold_alone_is_refused():
    evaluation = evaluation_of(*too_sure(20, 1.0), np.full(20, 3))
    with pytest.raises(ValueError, match="two folds or more to fit temperatures, found fold 3 alone"):
        calibrate(evaluation)


def test_the_calibration_error_by_hand():
    """Two bins of four: 0.1, 0.1, 0.2, 0.2 with one positive, 0.15 against 0.25; 0.6, 0.6, 0.9, 0.9 with all, 0.75
    against 1. The mean of 0.1 and 0.25."""
    predicted = np.array([0.9, 0.1, 0.2, 0.6, 0.6, 0.2, 0.1, 0.9])
    truth = np.array([1, 0, 1, 1, 1, 0, 0, 1])
    bins = reliability(truth, predicted, 2)
    assert bins.to_numpy() == pytest.approx(np.array([[4, 0.15, 0.25], [4, 0.75, 1.0]]))
    assert calibration_error(bins) == pytest.approx(0.175)


def test_equal_answers_share_a_bin_and_count_as_one():
    truth = np.array([0, 0, 1, 0, 1, 1])
    one = reliability(truth, np.full(6, 0.2))
    assert one.to_numpy().tolist() == [[6, pytest.approx(0.2), 0.5]] and calibration_error(one) == pytest.approx(0.3)
    uneven = reliability(truth, np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.7]), 2)
    assert uneven.n.tolist() == [5, 1] and uneven.found.tolist() == [pytest.approx(2 / 5), 1]


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_the_counts_are_those_of_the_bins_of_scikit_learn(decimals):
    truth, predicted = (table.ravel() for table in too_sure(57, 1.5))
    predicted = predicted.round(decimals)
    bins = reliability(truth, predicted)
    found, probability = calibration_curve(truth, predicted, n_bins=10, strategy="quantile")
    assert bins.found.tolist() == found.tolist() and bins.predicted.tolist() == probability.tolist()
    assert bins.n.sum() == len(truth)
    assert (bins.n * bins.predicted).sum() == pytest.approx(predicted.sum())
    assert (bins.n * bins.found).sum() == pytest.approx(truth.sum())


def test_the_error_by_chance_is_that_of_labels_drawn_from_the_probabilities():
    """Bins of 24 of about 0.05 to 0.95 and, of a single bin of coins, sqrt(2 / pi) * 0.05 = 0.0399."""
    assert chance_error(pd.DataFrame({"n": [100], "predicted": [0.5]})) == pytest.approx(0.0399, abs=1e-4)
    rng, probability = np.random.default_rng(0), np.linspace(0.01, 0.99, 240)
    drawn = [reliability((rng.random(240) < probability).astype(int), probability) for _ in range(100)]
    assert chance_error(drawn[0]) == pytest.approx(np.mean([calibration_error(bins) for bins in drawn]), rel=0.08)


def test_errors_before_and_after_by_hand():
    """All said 0.2. Present: half are; log loss is the mean of log 5 and log 1.25, Brier that of 0.64 and 0.04.
    Locations: none is, so that both are those of 0.2 alone."""
    truth, probability = np.zeros((4, 14), int), np.full((4, 14), 0.2)
    truth[:2, -1] = 1
    table = errors_table(truth, {"before": probability, "after": truth.astype(float)})
    present, locations = table.loc[("Aneurysm Present", "before")], table.loc[("13 locations", "before")]
    assert present[:3].tolist() == pytest.approx([(np.log(5) + np.log(1.25)) / 2, 0.34, 0.3])
    assert locations[:3].tolist() == pytest.approx([np.log(1.25), 0.04, 0.2])
    assert present["by chance"] == pytest.approx(np.sqrt(2 / np.pi * 0.2 * 0.8 / 4))
    assert table.xs("after", level=1).to_numpy() == pytest.approx(np.zeros((2, 4)), abs=1e-6)


@pytest.mark.parametrize(("probability", "positive"), [(0.0, 0), (0.5, 1), (1.0, 0)])
def test_answers_that_are_all_the_same_are_scaled_and_drawn(probability, positive, tmp_path):
    truth, predicted = np.full((6, 14), positive), np.full((6, 14), probability)
    scaled = calibrate(evaluation_of(truth, predicted, np.arange(6) % 2))
    assert np.isfinite(scaled.after.stage2).all() and "nan" not in scaled.text("one")
    if probability == 0.5:  # no temperature changes it
        assert scaled.temperatures == {0: 1.0, 1: 1.0}
    reliability_figure(truth, scaled.predictions, tmp_path / "r.png")
    assert cv2.imread(str(tmp_path / "r.png")).shape[1] == round(WIDTH_IN * DPI)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """Two encoders' folders and two folds, as extract_features.py and train_stage2.py leave them."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("trained")
    series = make_series(root, n_series=24, n_features=8, folds=2, encoders=("one", "two"))
    series = series.assign(PatientSex=["Female", "Male"] * 12, PatientAge=[45, 63, None] * 8)
    series.to_csv(root / "data" / "train_2_folds.csv", index=False)
    one, two = (ModelPaths(root / "model", name) for name in ("one", "two"))
    for fold in range(2):
        train_fold(
            series, SliceLocalizers({}, frozenset()), one, TINY, fold, DistContext(0, 1, torch.device("cpu")), False
        )
        shutil.copytree(one.stage2(fold), two.stage2(fold))  # says other things of its own encoder's features
    return root, series


def evaluate(root: Path, **settings) -> None:
    main(EvalStage2Config(root / "data", root / "model", folds=2, device="cpu", **settings))


def test_each_encoders_answers_are_scaled_written_drawn_and_copied(trained, capsys):
    root, series = trained
    evaluate(root, encoders="one,two", temperature=True, sync=str(root / "copies"))
    output = capsys.readouterr().out
    for name in ("one", "two"):
        paths, copies = (ModelPaths(root / folder, name) for folder in ("model", "copies"))
        text = {"SeriesInstanceUID": str}
        before, after = (pd.read_csv(p, dtype=text) for p in (paths.oof_stage2_csv, paths.oof_stage2_calibrated_csv))
        assert list(before) == list(after) and before.iloc[:, :2].equals(after.iloc[:, :2]) and len(after) == 24
        truth = series.set_index("SeriesInstanceUID").loc[before.SeriesInstanceUID]
        for k in (0, 1):
            other, own = before.fold != k, before.fold == k
            temperature = fit_temperature(truth[list(LABELS)].to_numpy()[other], before[other][list(LABELS)].to_numpy())
            expected = at_temperature(before[own][list(LABELS)].to_numpy(), temperature)
            np.testing.assert_allclose(after[own][list(LABELS)], expected, atol=1e-9)
            assert f"{temperature:.3f} in fold {k}" in output
        for path in (paths.oof_stage2_calibrated_csv, paths.folder / "reliability.png"):
            assert f"\n{path}\n" in output
            assert (copies.folder / path.name).read_bytes() == path.read_bytes()
        assert f"Temperature scaling of stage 2 of {name}:" in output
    rows = {line[:20].strip(): line[20:].split()[0] for line in output.splitlines() if line.startswith(("sex", "age"))}
    assert rows == {"sex Female": "12", "sex Male": "12", "age 40 to 59": "8", "age 60 to 79": "8", "age unknown": "8"}
    assert output.count("before") == output.count("after") == 4 and "24 series; calibration error" in output


def test_without_the_option_nothing_is_scaled_and_with_one_fold_it_cannot_be(trained, capsys):
    root, _ = trained
    paths = ModelPaths(root / "model", "two")
    paths.oof_stage2_calibrated_csv.unlink(missing_ok=True)
    evaluate(root, encoder="two", fold="1")
    with pytest.raises(ValueError, match="found fold 1 alone"):
        evaluate(root, encoder="two", fold="1", temperature=True)
    assert not paths.oof_stage2_calibrated_csv.exists() and "emperature" not in capsys.readouterr().out
