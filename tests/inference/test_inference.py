"""Inference straight from DICOM: the same windows and answers as by way of the cache, and an answer whatever comes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from aneurysm.cache.cache import open_cache
from aneurysm.cache.features import read_features
from aneurysm.cache.windows import crop_box, read_window
from aneurysm.inference.bundle import bundle_identity, read_bundle, write_bundle
from aneurysm.inference.predict import Predictor
from aneurysm.inference.sampled import Request, read_sampled
from aneurysm.labels import LABELS, MIRROR
from aneurysm.package import bundle_folder
from aneurysm.paths import ModelPaths
from aneurysm.stage1.config import InputConfig
from aneurysm.stage2.predict import load_stage2, predict_series
from tests.dicom_writer import SERIES_UID
from tests.end_to_end_data import BROKEN, CPU, ENCODER, EVERY_MM, ROUNDED, SERIES, SETTINGS, STAGE1

ROOT = Path(__file__).parents[2]
READABLE = [uid for uid in SERIES if uid not in BROKEN]
HEADER = {"CTA": "CT", "MRA": "MR"}  # what the header of such a series says, which has no descriptions


@pytest.fixture(scope="module")
def table(root) -> pd.DataFrame:
    return pd.read_csv(root / "data" / "train_2_folds.csv").set_index("SeriesInstanceUID")


def folder(root: Path, uid: str) -> Path:
    return root / "data" / "series" / uid


def by_the_cache(root: Path, uid: str, fold: int, modality: str) -> np.ndarray:
    """(14,) what stage 2 says about the series' features on disk."""
    paths = ModelPaths(root / "model", ENCODER)
    model, config = load_stage2(paths.stage2(fold) / "last.pth")
    features = read_features(paths.features(fold) / f"{uid}.safetensors")
    return predict_series(model, config, features, modality, open_cache(root / "data").meta(uid)["plane"])


def test_the_series_are_of_the_kinds_that_they_are_made_for(table):
    assert table.plane[READABLE].tolist() == ["axial", "axial", "sagittal", "axial", "axial", "axial"]
    assert table.resliced[READABLE].tolist() == [False, True, False, False, False, False]
    assert table.shift_hu["lies"] == 1024 and "an image is blank" in table.warnings["hole"]
    assert table.n_slices["axial"] < 60  # head_mm has cut some off
    assert table.n_slices[list(BROKEN)].isna().all()


@pytest.mark.parametrize("uid", READABLE)
def test_windows_from_dicom_are_those_from_the_cache_to_the_bit(root, uid):
    inputs = (STAGE1.input, InputConfig(image_size=96, crop=(0.2, 0.7, 0.2, 0.8), n_slices=5, neighbour_mm=2.0))
    series, cache = read_sampled(folder(root, uid), Request(SETTINGS, EVERY_MM, inputs)), open_cache(root / "data")
    assert series.position_mm.tolist() == cache.position_mm(uid).tolist()
    assert series.index.tolist() == read_features(next(root.glob(f"model/*/fold-0/features/{uid}.*"))).slice.tolist()
    for config, shown in zip(inputs, series.shown, strict=True):
        box = crop_box(config, cache.meta(uid)["plane"])
        for index, rows in zip(series.index, shown.rows, strict=True):
            expected = read_window(cache, uid, index, config.neighbour_mm, box, config.n_slices)
            np.testing.assert_array_equal(np.moveaxis(shown.images[rows], 0, 2), expected)
        assert np.ptp(shown.images) > 0.5


def test_no_more_images_are_decoded_than_the_windows_need(root, monkeypatch):
    decoded = []
    decode = sys.modules["aneurysm.dicom.series"].decode_frame
    monkeypatch.setattr("aneurysm.dicom.series.decode_frame", lambda frame: decoded.append(frame) or decode(frame))
    series = read_sampled(folder(root, "axial"), Request(SETTINGS, 40.0, (STAGE1.input,)))
    assert len(series.index) == 5 and len(series.shown[0].images) == 5 + 4 + 4  # the outermost have one neighbour
    assert len(set(decoded)) == len(decoded) <= 24 + 13  # find_head looks at 24


@pytest.mark.parametrize("uid", READABLE)
def test_probabilities_agree_with_the_cached_way(root, pairs, table, uid):
    kind = table.series_type[uid]
    prediction = Predictor(pairs, CPU).predict_series(folder(root, uid), kind)
    assert prediction.failure == "" and set(prediction.seconds) == {"headers", "decode", "encode", "sequence"}
    expected = np.mean([by_the_cache(root, uid, fold, kind) for fold in (0, 1)], axis=0)
    np.testing.assert_allclose(prediction.probabilities, expected, atol=ROUNDED)
    untold = Predictor(pairs, CPU).predict_series(folder(root, uid)).probabilities
    expected = np.mean([by_the_cache(root, uid, fold, HEADER[kind]) for fold in (0, 1)], axis=0)
    np.testing.assert_allclose(untold, expected, atol=2e-4)
    assert (np.abs(untold - prediction.probabilities).max() > 1e-3) == (kind == "MRA")  # a CT is a CTA, an MR is any


@pytest.mark.usefixtures("native_format")
def test_answers_differ_between_series_views_and_folds(root, pairs):
    """Else agreement would prove nothing."""
    both, first = Predictor(pairs, CPU), Predictor(pairs[:1], CPU)
    plain = Predictor(pairs[:1], CPU, tta=False)
    predictions = [p.predict_series(folder(root, "axial")).probabilities for p in (both, first, plain)]
    predictions.append(first.predict_series(folder(root, "sagittal")).probabilities)
    for i, one in enumerate(predictions):
        assert all(np.abs(one - other).max() > 0.01 for other in predictions[:i])


def test_without_the_mirrored_view_the_original_alone_is_asked(root, pairs):
    prediction = Predictor(pairs[:1], CPU, tta=False).predict_series(folder(root, "axial"), "CTA")
    paths = ModelPaths(root / "model", ENCODER)
    model, config = load_stage2(paths.stage2(0) / "last.pth")
    config = replace(config, tokens=replace(config.tokens, tta=False))
    features = read_features(paths.features(0) / "axial.safetensors")
    expected = predict_series(model, config, features, "CTA", "axial")
    np.testing.assert_allclose(prediction.probabilities, expected, atol=ROUNDED)
    logits = features.logits[0].astype(float)
    np.testing.assert_allclose(prediction.curves.probability, 1 / (1 + np.exp(-logits)), atol=2e-3)


def test_curves_are_the_mean_over_views_with_left_and_right_put_back(root, pairs):
    prediction = Predictor(pairs[:1], CPU).predict_series(folder(root, "sagittal"))
    features = read_features(ModelPaths(root / "model", ENCODER).features(0) / "sagittal.safetensors")
    original, mirrored = (1 / (1 + np.exp(-logits.astype(float))) for logits in features.logits)
    expected = (original + mirrored[:, list(MIRROR)]) / 2
    np.testing.assert_allclose(prediction.curves.probability, expected, atol=2e-3)
    np.testing.assert_allclose(prediction.curves.position_mm, features.position_mm, atol=1e-3)


def test_the_14_probabilities_stand_in_the_order_of_the_labels(root, pairs):
    """A stage 2 whose answer is one number a label, whatever it sees: mirrored, the pairs of sides are exchanged."""
    logits = torch.linspace(-3, 3, 14)
    still = {name: torch.zeros_like(tensor) if name in ("pooled_head.1.weight", "max_baseline.weight") else tensor
             for name, tensor in pairs[0].stage2.weights.items()}  # fmt: skip
    stage2 = replace(pairs[0].stage2, weights=still | {"prior": logits})
    pair = replace(pairs[0], stage2=stage2)
    expected = 1 / (1 + np.exp(-logits.double().numpy()))
    alone = Predictor([pair], CPU, tta=False).predict_series(folder(root, "axial")).probabilities
    np.testing.assert_allclose(alone, expected, atol=1e-6)
    both = Predictor([pair], CPU).predict_series(folder(root, "axial")).probabilities
    np.testing.assert_allclose(both, (expected + expected[list(MIRROR)]) / 2, atol=1e-6)


def test_a_series_that_cannot_be_read_is_answered_with_the_training_prevalences_and_a_warning(root, pairs, table):
    labels = table[list(LABELS)]
    expected = (labels[table.fold == 1].mean() + labels[table.fold == 0].mean()) / 2  # each fold's model saw the other
    for uid, words in (("broken", "expected DICOM images"), ("empty", "no file"), ("nowhere", "no such folder")):
        prediction = Predictor(pairs, CPU).predict_series(folder(root, uid))
        np.testing.assert_allclose(prediction.probabilities, expected)
        assert words in prediction.failure and "training prevalences" in prediction.warnings[-1]
        assert prediction.peaks == () and prediction.curves is None


def test_a_failing_or_senseless_model_is_answered_for_too(root, pairs, monkeypatch):
    predictor = Predictor(pairs, CPU)
    monkeypatch.setattr(predictor.models[1], "classify", lambda *_: np.full(14, np.nan))
    prediction = predictor.predict_series(folder(root, "hole"))
    assert prediction.uid == SERIES_UID  # and not the name of the folder: its headers were read
    assert "found [nan" in prediction.failure and np.isfinite(prediction.probabilities).all()
    assert any("an image is blank" in warning for warning in prediction.warnings)
    monkeypatch.setattr(predictor.models[0], "encode", lambda *_: torch.zeros(2**60))
    assert np.isfinite(predictor.predict_series(folder(root, "axial")).probabilities).all()


def test_worker_processes_give_the_same_in_the_same_order(root, pairs):
    folders = [folder(root, uid) for uid in ("sagittal", "broken", "axial")]
    predictor = Predictor(pairs[:1], CPU)
    here, there = (list(predictor.predict_all(folders, workers)) for workers in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert one.folder == other.folder and one.failure == other.failure
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_models_that_were_trained_otherwise_are_not_asked_together(pairs):
    about = pairs[1].stage2.about | {"sampling": {"slice_spacing_mm": 3.0, "views": ["original"]}}
    other = replace(pairs[1], stage2=replace(pairs[1].stage2, about=about))
    with pytest.raises(ValueError, match="slice_spacing_mm: expected models trained alike"):
        Predictor([pairs[0], other], CPU)


def test_a_checkpoint_that_does_not_tell_its_sampling_is_refused_and_of_unknown_cache_settings_there_is_a_note(pairs):
    assert Predictor(pairs, CPU).notes == []
    without = replace(pairs[0].stage1, about={k: v for k, v in pairs[0].stage1.about.items() if k != "cache"})
    assert "does not say how its cache was made" in Predictor([replace(pairs[0], stage1=without)], CPU).notes[0]
    about = {k: v for k, v in pairs[0].stage2.about.items() if k != "sampling"}
    with pytest.raises(ValueError, match="last.pth: expected the distance of the slices"):
        Predictor([replace(pairs[0], stage2=replace(pairs[0].stage2, about=about))], CPU)


@pytest.fixture(scope="module")
def bundle(pairs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    write_bundle(folder, pairs)
    return folder


def test_a_bundle_answers_as_the_models_that_went_into_it(root, pairs, bundle):
    expected = Predictor(pairs, CPU).predict_series(folder(root, "coronal"), "CTA")
    found = Predictor(read_bundle(bundle), CPU).predict_series(folder(root, "coronal"), "CTA")
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert found.peaks == expected.peaks and len(found.peaks) > 0


def test_a_bundle_stores_in_float16_what_that_holds_without_loss_and_keeps_its_note(pairs, tmp_path):
    rounded = {name: t.half().float() if t.is_floating_point() else t for name, t in pairs[0].stage1.weights.items()}
    name = next(name for name, tensor in rounded.items() if tensor.is_floating_point() and tensor.numel() > 1)
    rounded[name] = torch.full_like(rounded[name], 1 / 3)
    pair = replace(pairs[0], stage1=replace(pairs[0].stage1, weights=rounded))
    write_bundle(tmp_path / "b", [pair], note="seen: nothing")
    stored = load_file(tmp_path / "b" / "00_stage1.safetensors")
    assert {t.dtype for key, t in stored.items() if t.is_floating_point() and key != name} == {torch.float16}
    assert stored[name].dtype == torch.float32
    ((found,), weights) = read_bundle(tmp_path / "b"), rounded
    assert all(torch.equal(found.stage1.weights[key], weights[key]) for key in weights)
    assert bundle_identity(tmp_path / "b")["note"] == "seen: nothing"
    write_bundle(tmp_path / "b", [pair])
    assert bundle_identity(tmp_path / "b")["note"] == ""


def test_a_damaged_or_missing_file_of_a_bundle_is_named(pairs, bundle, tmp_path):
    write_bundle(tmp_path / "b", pairs)
    weights = tmp_path / "b" / "01_stage2.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"01_stage2\.safetensors: expected the SHA-256"):
        read_bundle(tmp_path / "b")
    weights.unlink()
    with pytest.raises(ValueError, match=r"01_stage2\.safetensors: not there"):
        read_bundle(tmp_path / "b")
    (tmp_path / "b" / "card.json").unlink()
    with pytest.raises(ValueError, match=r"card\.json: expected the card of a bundle"):
        read_bundle(tmp_path / "b")
    with pytest.raises(ValueError, match="expected a bundle or nothing, found other files"):
        write_bundle(tmp_path / "b", pairs)


@pytest.mark.slow
@pytest.mark.parametrize("in_the_box", [False, True])
def test_inference_needs_nothing_of_what_training_needs(root, bundle, in_the_box):
    """The second system of the included bundle resamples its volumes with scipy."""
    which = [bundle_folder(), folder(root, "axial"), "scipy"] if in_the_box else [bundle, folder(root, "axial")]
    command = [sys.executable, ROOT / "tests" / "inference_alone.py", *which]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.stdout == "14 probabilities\n", result.stderr[-3000:]
