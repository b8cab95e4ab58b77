"""Bundles with volume3d and with a calibration: the answer is what both systems say, each as it says it alone."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from scipy.stats import rankdata

import eval_end_to_end
from aneurysm.dicom.find import find_series
from aneurysm.inference.bundle import (
    bundle_identity,
    read_bundle,
    read_calibration,
    read_second,
    write_bundle,
    write_calibration,
)
from aneurysm.inference.models import read_pair
from aneurysm.inference.platt import Platt, fit_platt
from aneurysm.inference.predict import Predictor
from aneurysm.inference.second_system import SecondSystem, VolumeEnsemble, second_system
from aneurysm.labels import LABELS
from aneurysm.paths import VOLUME3D, ModelPaths
from aneurysm.stage2.calibration import calibration_error, reliability
from aneurysm.training.checkpoint import save_checkpoint
from tests.end_to_end_data import CPU, ENCODER, SERIES
from volume3d.config import InputConfig, NetConfig, Volume3dConfig, VolumeSettings
from volume3d.ensemble import load_ensemble
from volume3d.model import Volume3dNet
from volume3d.series_volume import read_series_volume

NET = NetConfig(width=8, stem_stride=(2, 2, 2), dense=1, dense_width=8)
CONFIG = Volume3dConfig(input=InputConfig(tta=True), net=NET)
VOLUMES = VolumeSettings(z_mm=4.0, size=48, pixel_mm=4.0)
UID = "SeriesInstanceUID"


def write_volume3d(model_dir: Path, fold: int, **about: object) -> Path:
    """A volume3d of random weights that speaks up."""
    torch.manual_seed(10 + fold)
    model = Volume3dNet(CONFIG.net)
    model.start_from(torch.full((14,), 0.3))
    path = ModelPaths(model_dir, VOLUME3D).fold(fold) / "last.pth"
    known = {"volume3d": asdict(CONFIG), "held_out": fold, "prevalence": [0.3] * 14, "volumes": asdict(VOLUMES)}
    save_checkpoint(path, model, known | about, {}, 1)
    return path


@pytest.fixture(scope="module")
def root(trained_root, tmp_path_factory) -> Path:
    """data/ and model/ of both systems, two folds, and a bundle of fold 0 with volume3d at a weight of 0.25."""
    root = tmp_path_factory.mktemp("second")
    for name in ("data", "model"):
        (root / name).symlink_to(trained_root / name)
    for fold in range(2):
        write_volume3d(root / "models3d", fold)
    pair = read_pair(ModelPaths(root / "model", ENCODER), 0)
    second = second_system(root / "models3d", [0, 1], "folds", 0.25)
    write_bundle(root / "bundle", [pair], second=second)
    return root


def test_the_answer_averages_log_odds_of_both_systems(root):
    folder = root / "data" / "series" / "axial"
    first = Predictor(read_bundle(root / "bundle"), CPU).predict_series(folder)
    together = Predictor.of_bundle(root / "bundle", CPU).predict_series(folder)
    (files,), _ = find_series([folder], root), None
    alone = load_ensemble(ModelPaths(root / "models3d", VOLUME3D), "all", CPU)
    second = alone.predict(read_series_volume(files, VOLUMES)).probabilities
    np.testing.assert_allclose(together.second, second, atol=1e-6)
    expected = expit(0.75 * logit(first.probabilities) + 0.25 * logit(second))
    np.testing.assert_allclose(together.probabilities, expected, atol=1e-6)
    assert np.abs(together.probabilities - first.probabilities).max() > 1e-3
    assert together.seconds["volume"] > 0 and "volume" not in first.seconds and not together.left_out


def test_without_time_or_a_volume_the_first_system_answers_alone_and_that_is_told(root, monkeypatch):
    folder = root / "data" / "series" / "axial"
    first = Predictor(read_bundle(root / "bundle"), CPU).predict_series(folder)
    predictor = Predictor.of_bundle(root / "bundle", CPU)
    predictor.second.pace_s = 1e6
    hurried = predictor.predict_series(folder, budget_s=1e5)
    assert hurried.second is None and hurried.left_out == ("volume3d was left out",)
    np.testing.assert_array_equal(hurried.probabilities, first.probabilities)

    def fails(*args):
        raise ValueError("no volume")

    monkeypatch.setattr("volume3d.make_volume.volume_of", fails)
    broken = predictor.predict_series(folder)
    assert broken.failure == "" and "volume3d could not read the series" in broken.warnings[-1]
    assert broken.warnings[-1].endswith("ValueError: no volume")
    np.testing.assert_array_equal(broken.probabilities, first.probabilities)


def test_a_volume3d_that_fails_costs_no_answer(root, monkeypatch):
    def fails(*args):
        raise RuntimeError("out of memory")

    folder = root / "data" / "series" / "axial"
    first = Predictor(read_bundle(root / "bundle"), CPU).predict_series(folder)
    predictor = Predictor.of_bundle(root / "bundle", CPU)
    monkeypatch.setattr(predictor.second.ensemble.__class__, "predict", fails)
    found = predictor.predict_series(folder)
    assert found.failure == "" and found.warnings[-1].endswith("RuntimeError: out of memory")
    np.testing.assert_array_equal(found.probabilities, first.probabilities)


def test_worker_processes_bring_volumes_along(root):
    folder = root / "data" / "series" / "axial"
    predictor = Predictor.of_bundle(root / "bundle", CPU)
    (prediction,) = predictor.predict_all([folder], workers=1)
    np.testing.assert_allclose(prediction.second, predictor.predict_series(folder).second, atol=1e-6)


def test_models_that_do_not_fit_are_named(root, tmp_path):
    second = read_second(root / "bundle")
    with pytest.raises(ValueError, match="weight of volume3d: expected 0 to 1, found 1.5"):
        VolumeEnsemble(replace(second, weight=1.5), CPU)
    first, other = second.trained
    another = replace(other, about=other.about | {"volumes": asdict(replace(VOLUMES, z_mm=5.0))}, source=Path("b.pth"))
    with pytest.raises(ValueError, match="b.pth: expected volumes made as for the other models"):
        VolumeEnsemble(SecondSystem((first, another), 0.5), CPU)
    no_volumes = write_volume3d(tmp_path, 0, volumes=None)
    with pytest.raises(
        ValueError, match=f"{no_volumes}: expected volumes made as for the other models, or made at all"
    ):
        second_system(tmp_path, [0], "folds", 0.5)
    with pytest.raises(ValueError, match="nothing.pth"):
        second_system(tmp_path, [0], str(tmp_path / "nothing.pth"), 0.5)


def test_the_script_packs_both_evaluates_them_side_by_side_and_calibrates(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aneurysm.stage2.dataset.check_unseen", lambda *about: None)
    given = {"data_dir": root / "data", "model_dir": tmp_path / "model", "encoder": ENCODER, "folds": 2}
    given |= {"device": "cpu", "workers": 0}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ENCODER).symlink_to(root / "model" / ENCODER)
    (tmp_path / "model" / VOLUME3D).symlink_to(root / "models3d" / VOLUME3D)
    bundle = tmp_path / "bundle"
    config = eval_end_to_end.EvalEndToEndConfig
    eval_end_to_end.main(config(**given, export=bundle, fold="1", volume3d="folds", volume3d_weight=0.4, note="a note"))
    assert {path.name for path in bundle.iterdir()} == {
        "00_stage1.safetensors", "00_stage2.safetensors", "00_volume3d.safetensors", "card.json",
    }  # fmt: skip
    assert bundle_identity(bundle)["note"] == "a note" and bundle_identity(bundle)["calibration"] == "not calibrated"
    capsys.readouterr()
    # Models of random weights know nothing that could be calibrated.
    monkeypatch.setattr(
        "aneurysm.inference.evaluate.fit_platt", lambda truth, output: Platt((1.0, 0.5), (1.0, 0.5), len(truth))
    )
    eval_end_to_end.main(config(**given, bundle=bundle, calibrate=True))
    output = capsys.readouterr().out
    for row in ("all models", f"stage 2 of {ENCODER}", "volume3d", "maximum of the maps", "calibration error"):
        assert row in output
    assert read_calibration(bundle).n_series == len(SERIES) - 2, "what could not be read does not count"
    assert bundle_identity(bundle)["calibration"] == "calibrated on 6 series that no model had seen"
    eval_end_to_end.main(config(**given, bundle=bundle, out=tmp_path / "after.csv"))
    assert "all models" in capsys.readouterr().out


def test_a_calibration_is_applied_to_what_is_read_alone(root, tmp_path):
    write_bundle(tmp_path / "b", read_bundle(root / "bundle"))
    folder = root / "data" / "series"
    before = [Predictor.of_bundle(tmp_path / "b", CPU).predict_series(folder / uid) for uid in ("axial", "broken")]
    write_calibration(tmp_path / "b", Platt((2.0, -1.0), (0.5, 0.25), 40))
    after = [Predictor.of_bundle(tmp_path / "b", CPU).predict_series(folder / uid) for uid in ("axial", "broken")]
    odds = logit(before[0].probabilities)
    expected = expit(np.append(0.5 * odds[:13] + 0.25, 2.0 * odds[13] - 1.0))
    np.testing.assert_allclose(after[0].probabilities, expected, atol=1e-9)
    np.testing.assert_array_equal(after[1].probabilities, before[1].probabilities)
    assert json.loads((tmp_path / "b" / "card.json").read_text())["calibration"]["n_series"] == 40


def test_platt_scaling_finds_the_line_that_the_cases_were_drawn_by():
    """Probabilities drawn with odds of 2 x - 1; what is said is the odds x, so scale 2 and shift -1 are to be found."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 1.5, (4000, 14))
    truth = (rng.random(odds.shape) < expit(2 * odds - 1)).astype(int)
    found = fit_platt(truth, expit(odds))
    assert found.present == pytest.approx((2, -1), abs=0.2) and found.locations == pytest.approx((2, -1), abs=0.05)
    calibrated = found(expit(odds))
    assert calibration_error(reliability(truth[:, -1], calibrated[:, -1])) < 0.03
    assert calibration_error(reliability(truth[:, -1], expit(odds[:, -1]))) > 0.1
    assert (rankdata(calibrated, axis=0) == rankdata(odds, axis=0)).all()


def test_what_cannot_be_calibrated_is_said():
    truth, output = np.zeros((4, 14), int), np.tile(np.linspace(0.1, 0.9, 4)[:, None], 14)
    with pytest.raises(ValueError, match="expected series with and without an aneurysm to calibrate on, found 0 with"):
        fit_platt(truth, output)
    truth[0] = 1
    with pytest.raises(ValueError, match="expected probabilities that rise with the share of aneurysms"):
        fit_platt(truth, output)
    assert len(LABELS) == truth.shape[1]
