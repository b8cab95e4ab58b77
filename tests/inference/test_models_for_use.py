"""From trained models to the bundle that is used: models of all series, and the temperature of the probabilities."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import eval_end_to_end
import eval_stage2
import extract_features
import train_stage1
import train_stage2
from aneurysm.config import parse_config
from aneurysm.inference.bundle import bundle_identity, read_bundle
from aneurysm.inference.predict import Predictor
from aneurysm.paths import ModelPaths
from aneurysm.training.checkpoint import load_checkpoint, save_state
from predict import PredictConfig
from predict import main as predict
from tests.end_to_end_data import BROKEN, CPU, ENCODER, SERIES, make_data, train_pairs
from tests.stage1_cache import make_spots, spot

pytestmark = pytest.mark.usefixtures("quick_pictures")
CACHED = [uid for uid in SERIES if uid not in BROKEN]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """data/ with spots, and model/ with the pairs of two folds."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("used")
    series = make_data(root / "data")
    train_pairs(root / "data", root / "model", series)
    spots = []
    for row in series[series.SeriesInstanceUID.isin(CACHED)].itertuples():
        described = json.loads((root / "data" / "npy_sequence" / f"{row.SeriesInstanceUID}.json").read_text())
        position_mm, about = described["position_mm"], (row.SeriesInstanceUID, row.fold)
        spots.append(spot(*about, 2, position_mm[2], row.plane, x=256.0, y=250.0, location="Basilar Tip"))
        spots += [spot(*about, i, position_mm[i], row.plane) for i in (8, 9)]
    make_spots(spots).to_csv(root / "data" / "train_stage1_2_folds.csv", index=False)
    pd.DataFrame(columns=["SeriesInstanceUID", "error"]).to_csv(root / "data" / "localizer_errors.csv", index=False)
    return root


def call(script, config_class: type, root: Path, *args) -> None:
    given = ["--data_dir", root / "data", "--model_dir", root / "model", "--folds", "2", "--device", "cpu"]
    if script is not train_stage1:
        given += ["--encoder", ENCODER]
    script.main(parse_config(config_class, "", list(map(str, [*given, *args]))))


def export(root: Path, *args) -> None:
    call(eval_end_to_end, eval_end_to_end.EvalEndToEndConfig, root, *args)


def records(out: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in out.glob("*.json")]


def test_models_of_all_series_go_from_training_to_predict_py(root, tmp_path, capsys):
    paths, axial = ModelPaths(root / "model", ENCODER), root / "data" / "series" / "axial"
    small = ["--fold", "none", "--training.epochs", "1", "--training.batch_size", "2", "--training.workers", "0"]
    stage1 = ["--encoder", ENCODER, "--weights", "none", "--input.image_size", "64", "--heads.neck_width", "16"]
    call(train_stage1, train_stage1.TrainStage1Config, root, *stage1, *small)
    # Stage 2 of all series learns from what each series' own fold says: nothing of fold-none is needed for it.
    stage2 = ["--net.width", "16", "--net.depth", "1", "--net.heads", "2"]
    call(train_stage2, train_stage2.TrainStage2Config, root, *stage2, *small)
    assert f"{len(CACHED)} series of" in capsys.readouterr().out
    for path in (paths.stage1(None), paths.stage2(None) / "last.pth"):
        assert load_checkpoint(path)["config"]["fold"] is None and load_checkpoint(path)["scores"] == {}
    export(root, "--fold", "none", "--export", tmp_path / "bundle")
    (pair,) = read_bundle(tmp_path / "bundle")
    assert pair.fold is None
    assert predict(PredictConfig((axial,), tmp_path / "bundle", tmp_path / "out", "cpu", workers=0)) == 0
    assert "probabilities: not calibrated" in capsys.readouterr().out
    (record,) = records(tmp_path / "out")
    assert len(record["probabilities"]) == 14 and np.isfinite(list(record["probabilities"].values())).all()
    # And what the encoder of all series says of them, for those who ask for it.
    wanted = ["--fold", "none", "--slice_spacing_mm", "7", "--workers", "0"]
    call(extract_features, extract_features.ExtractConfig, root, *wanted)
    with pytest.raises(ValueError, match=f"expected series that the model has not seen, found {len(CACHED)} of"):
        call(eval_stage2, eval_stage2.EvalStage2Config, root, "--fold", "none")
    with pytest.raises(ValueError, match=f"00_stage2.safetensors: expected series .* found {len(CACHED)} of"):
        call(eval_end_to_end, eval_end_to_end.EvalEndToEndConfig, root, "--bundle", tmp_path / "bundle")
    forget_training(paths.stage2(None) / "last.pth")
    call(eval_stage2, eval_stage2.EvalStage2Config, root, "--fold", "none")
    assert len(pd.read_csv(paths.oof_stage2_csv)) == len(SERIES)
    paths.oof_stage2_csv.unlink()
    assert {path.stem for path in paths.features(None).glob("*.safetensors")} == set(CACHED)
    shutil.rmtree(paths.fold(None))


def test_models_of_all_series_are_not_evaluated_on_these_from_dicom(root):
    with pytest.raises(ValueError, match="fold none: expected a fold to evaluate on; models of all series have seen"):
        call(eval_end_to_end, eval_end_to_end.EvalEndToEndConfig, root, "--fold", "none")


def forget_training(checkpoint: Path) -> None:
    """As if its model had been trained on other series."""
    saved = load_checkpoint(checkpoint)
    save_state(checkpoint, saved | {"config": saved["config"] | {"trained_on": ""}})


@pytest.fixture
def calibrated(root) -> ModelPaths:
    """Two models whose temperature is 2."""
    call(eval_stage2, eval_stage2.EvalStage2Config, root, "--temperature")
    paths = ModelPaths(root / "model", ENCODER)
    kept = json.loads(paths.temperature_json.read_text())
    assert 0.05 <= kept["temperature"] <= 20 and list(kept["checkpoints"]) == ["0", "1"]
    paths.temperature_json.write_text(json.dumps(kept | {"temperature": 2.0}))
    return paths


def test_the_temperature_reaches_the_bundle_and_the_report(root, calibrated, tmp_path, capsys):
    axial, words = root / "data" / "series" / "axial", "calibrated on held-out series, temperature 2.000"
    export(root, "--export", tmp_path / "bundle")
    assert f"{ENCODER}: calibrated at temperature 2.000" in capsys.readouterr().out
    assert bundle_identity(tmp_path / "bundle")["calibration"] == words
    pairs = read_bundle(tmp_path / "bundle")
    each = (Predictor([replace(pair, temperature=1.0)], CPU) for pair in pairs)
    before = np.array([predictor.predict_series(axial).probabilities for predictor in each])
    # Log-odds halved: the odds become their square root. Then the mean over the folds.
    roots = np.sqrt(before / (1 - before))
    found = Predictor(pairs, CPU).predict_series(axial).probabilities
    np.testing.assert_allclose(found, (roots / (1 + roots)).mean(axis=0), atol=1e-6)
    assert np.abs(found - before.mean(axis=0)).max() > 0.01
    assert predict(PredictConfig((axial,), tmp_path / "bundle", tmp_path / "out", "cpu", workers=0)) == 0
    assert f"probabilities: {words}" in capsys.readouterr().out
    assert any(words in page.read_text() for page in (tmp_path / "out").glob("*.html"))
    (record,) = records(tmp_path / "out")
    np.testing.assert_allclose(list(record["probabilities"].values()), found, atol=1e-5)


def test_models_that_the_temperature_was_not_fitted_to_go_without_it_and_that_is_said(
    root, calibrated, tmp_path, capsys
):
    weights = calibrated.stage2(1) / "last.pth"
    before = weights.read_bytes()
    torch.save(torch.load(weights) | {"epoch": 99}, weights)  # trained again since then
    export(root, "--export", tmp_path / "again")
    export(root, "--fold", "0", "--export", tmp_path / "first")
    weights.write_bytes(before)
    output = capsys.readouterr().out
    assert "not calibrated: temperature.json was fitted to other models than fold-1" in output
    assert [pair.temperature for pair in read_bundle(tmp_path / "again")] == [1.0, 1.0]
    assert [pair.temperature for pair in read_bundle(tmp_path / "first")] == [2.0]
    calibrated.temperature_json.write_text("{}")
    with pytest.raises(ValueError, match=r"temperature.json: expected what eval_stage2.py --temperature writes"):
        export(root, "--export", tmp_path / "damaged")
    calibrated.temperature_json.unlink()


def test_a_bundle_without_temperatures_answers_as_it_did(root, tmp_path):
    export(root, "--fold", "0", "--export", tmp_path / "bundle")
    card = json.loads((tmp_path / "bundle" / "card.json").read_text())
    for row in card["pairs"]:
        del row["temperature"]  # as version 1.0.0 wrote it
    (tmp_path / "bundle" / "card.json").write_text(json.dumps(card))
    (pair,) = read_bundle(tmp_path / "bundle")
    assert pair.temperature == 1.0 and bundle_identity(tmp_path / "bundle")["calibration"] == "not calibrated"
    assert Predictor([pair], CPU).predict_series(root / "data" / "series" / "axial").failure == ""
