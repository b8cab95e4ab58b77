"""eval_end_to_end.py: its tables, its file of answers, how it compares them, and the bundle that it makes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import eval_stage2
from aneurysm.inference.bundle import read_bundle
from aneurysm.inference.evaluate import agreement_text, failures_text, times_text
from aneurysm.inference.models import read_pair
from aneurysm.inference.predict import Predictor
from aneurysm.inference.prediction import Prediction
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from eval_end_to_end import EvalEndToEndConfig, main
from tests.end_to_end_data import CPU, ENCODER, ROUNDED, SERIES, make_data, train_pairs

ROOT = Path(__file__).parents[2]
UID = "SeriesInstanceUID"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """data/, and model/ with pairs of one encoder, under two names, and what eval_stage2.py --header_modality says of
    the first."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("evaluated")
    train_pairs(root / "data", root / "model", make_data(root / "data"))
    shutil.copytree(root / "model" / ENCODER, root / "model" / "other")
    given = {"folds": 2, "header_modality": True, "device": "cpu"}
    eval_stage2.main(eval_stage2.EvalStage2Config(root / "data", root / "model", encoder=ENCODER, **given))
    return root


def evaluate(root: Path, **settings) -> None:
    given = {"encoder": ENCODER, "folds": 2, "device": "cpu", "workers": 0} | settings
    main(EvalEndToEndConfig(data_dir=root / "data", model_dir=root / "model", **given))


def forget(root: Path, *encoders: str) -> None:
    """Removes what earlier tests have been answered."""
    for name in encoders:
        ModelPaths(root / "model", name).oof_end_to_end_csv.unlink(missing_ok=True)


def test_it_prints_the_tables_writes_the_answers_and_agrees_with_the_cached_way(root, capsys):
    evaluate(root, sync=str(root / "copies"))
    output, paths = capsys.readouterr().out, ModelPaths(root / "model", ENCODER)
    for words in ("stage 2, held-out series of fold 0, 1; 2 without features", "8 cases", "modality CTA",
                  "plane sagittal", "maximum over slices", "8 series against the cached way: largest difference 0.000",
                  "2 series could not be read", "empty: expected DICOM images, found no file",
                  "s a series (headers"):  # fmt: skip
        assert words in output, words
    assert "!!!" not in output
    found = pd.read_csv(paths.oof_end_to_end_csv)
    assert list(found) == [UID, "fold", *LABELS] and set(found[UID]) == set(SERIES)
    assert ModelPaths(root / "copies", ENCODER).oof_end_to_end_csv.exists()
    cached = pd.read_csv(paths.oof_stage2_header_csv).set_index(UID).loc[found[UID]]
    np.testing.assert_allclose(found[list(LABELS)], cached[list(LABELS)], atol=1e-3)
    assert (found.fold.to_numpy() == cached.fold.to_numpy()).all()


def test_each_series_is_answered_by_the_pair_that_has_not_seen_its_fold(root, capsys):
    forget(root, ENCODER)
    evaluate(root, fold="1")
    found = pd.read_csv(ModelPaths(root / "model", ENCODER).oof_end_to_end_csv).set_index(UID)
    assert set(found.index) == set(SERIES[1::2]) and set(found.fold) == {1}
    predictions = []
    for fold in (0, 1):
        predictor = Predictor([read_pair(ModelPaths(root / "model", ENCODER), fold)], CPU)
        predictions.append(predictor.predict_series(root / "data" / "series" / "enhanced", "MR").probabilities)
    np.testing.assert_allclose(found.loc["enhanced", list(LABELS)].astype(float), predictions[1], atol=ROUNDED)
    assert np.abs(predictions[0] - predictions[1]).max() > 0.01


def test_a_look_at_a_few_series_or_at_one_fold_costs_no_answer_about_others(root, tmp_path, capsys):
    model = shutil.copytree(root / "model", tmp_path / "model")
    (tmp_path / "data").symlink_to(root / "data")
    path = ModelPaths(model, ENCODER).oof_end_to_end_csv
    path.unlink(missing_ok=True)
    evaluate(tmp_path, limit=1)
    assert pd.read_csv(path)[UID].tolist() == list(SERIES[:2])
    evaluate(tmp_path, limit=2)  # these and others
    assert sorted(pd.read_csv(path)[UID]) == sorted(SERIES[:4])
    evaluate(tmp_path)
    whole = path.read_bytes()
    capsys.readouterr()
    evaluate(tmp_path, limit=1)
    assert path.read_bytes() == whole
    assert f"{path} stays as it is: it holds 6 other series of these folds" in capsys.readouterr().out
    pd.read_csv(path).assign(**dict.fromkeys(LABELS, 0.123)).to_csv(path, index=False)
    evaluate(tmp_path, fold="1")
    after = pd.read_csv(path).set_index("fold")
    assert set(after[UID]) == set(SERIES) and (after.loc[0, list(LABELS)] == 0.123).all(axis=None)
    assert not (after.loc[1, list(LABELS)] == 0.123).any(axis=None)


def test_several_encoders_are_evaluated_together_and_each_keeps_its_answers(root, capsys):
    forget(root, ENCODER, "other")
    evaluate(root, encoder=f"{ENCODER},other", limit=1)
    output = capsys.readouterr().out
    assert "stage 2 of other" in output and "mean of ranks" in output and "2 cases" in output
    for name in (ENCODER, "other"):
        assert pd.read_csv(ModelPaths(root / "model", name).oof_end_to_end_csv)[UID].tolist() == list(SERIES[:2])
    assert "oof_stage2_header.csv is not there to compare with: eval_stage2.py --header_modality writes it" in output


def test_answers_to_another_question_are_not_compared(root, capsys):
    evaluate(root, limit=1, tta="none")
    assert "not compared with" in capsys.readouterr().out
    evaluate(root, limit=1, header_modality=False)
    assert "oof_stage2.csv is not there to compare with: eval_stage2.py writes it" in capsys.readouterr().out


def test_the_script_runs_with_a_worker_and_its_bundle_gives_the_same_answer(root, tmp_path, capsys):
    command = [sys.executable, "eval_end_to_end.py", "--data_dir", root / "data", "--model_dir", root / "model",
               "--encoder", ENCODER, "--folds", "2", "--device", "cpu", "--fold", "0", "--workers", "1",
               "--limit", "1"]  # fmt: skip
    forget(root, ENCODER)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    found = pd.read_csv(ModelPaths(root / "model", ENCODER).oof_end_to_end_csv).set_index(UID)
    evaluate(root, fold="0", export=tmp_path / "bundle")
    title, *files = capsys.readouterr().out.splitlines()
    assert title == f"{ENCODER}: not calibrated; eval_stage2.py --temperature fits a temperature"
    assert {Path(line).name for line in files} == {path.name for path in (tmp_path / "bundle").iterdir()}
    prediction = Predictor(read_bundle(tmp_path / "bundle"), CPU).predict_series(root / "data/series/axial", "CTA")
    np.testing.assert_allclose(prediction.probabilities, found.loc["axial", list(LABELS)].astype(float), atol=1e-5)


def test_a_bundle_of_another_data_set_is_evaluated_on_all_series(root, tmp_path, capsys, monkeypatch):
    evaluate(root, fold="0", export=tmp_path / "bundle")
    capsys.readouterr()
    monkeypatch.setattr("aneurysm.stage2.dataset.check_unseen", lambda *about: None)  # it has seen some of these
    evaluate(root, bundle=tmp_path / "bundle", out=tmp_path / "out.csv")
    output = capsys.readouterr().out
    assert f"{tmp_path / 'bundle'} on all series of" in output and "could not be read" in output
    found = pd.read_csv(tmp_path / "out.csv")
    assert found[UID].tolist() == list(SERIES) and found.fold.nunique() == 2
    predictor = Predictor(read_bundle(tmp_path / "bundle"), CPU)
    for uid in SERIES[:2]:
        expected = predictor.predict_series(root / "data/series" / uid).probabilities
        np.testing.assert_allclose(found.set_index(UID).loc[uid, list(LABELS)].astype(float), expected, atol=1e-5)


def table(uids: str, values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({UID: list(uids), **{label: values for label in LABELS}})


def test_disagreement_is_said_loudly_and_names_the_series():
    cached = table("abcd", [0.1, 0.2, 0.3, 0.4])
    agreeing = agreement_text(table("bac", [0.2005, 0.1, 0.3]), cached)
    assert "3 series" in agreeing and "largest difference 0.0005" in agreeing and "mean 0.00017" in agreeing
    assert "0 series are only here, 1 only there" in agreeing and "!!!" not in agreeing
    far = agreement_text(table("abx", [0.1, 0.25, 0.3]), cached).splitlines()
    assert "!!! DOES NOT AGREE" in far[1] and far[2].split() == ["b", "0.0500"] and len(far) == 3
    assert "1 series are only here, 2 only there" in far[0]
    assert "!!!" in agreement_text(table("abcd", [0.105, 0.205, 0.305, 0.405]), cached)  # the mean alone is too large
    assert "no series in common" in agreement_text(table("x", [0.1]), cached)


def test_failures_and_times_by_hand():
    output = {"headers": 0.5, "decode": 1.0, "encode": 3.0, "sequence": 0.25}
    read = [Prediction(Path(f"s/{i}"), np.zeros(14), {}, seconds=output) for i in range(2)]
    failed = Prediction(Path("s/x"), np.zeros(14), {}, failure="no file")
    assert failures_text([*read, failed]).splitlines() == [
        "1 series could not be read; answered with the training prevalence", "  x: no file"
    ]  # fmt: skip
    text = times_text([*read, failed], wall_s=7.5)
    assert text.startswith("2.50 s a series (headers 0.50, decode 1.00, encode 3.00, sequence 0.25)")
    assert text.endswith("busy 80% of the time")
    assert times_text([failed], 1.0) == "no series was read"
