"""volume3d.predict: DICOM files give the probabilities of the cached volumes; what is broken is listed."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aneurysm.config import from_saved
from aneurysm.dicom.find import find_series
from aneurysm.labels import LABELS, PRESENT
from aneurysm.phantom.config import PhantomConfig
from aneurysm.phantom.dataset import make_dataset
from aneurysm.training.checkpoint import load_checkpoint
from tests.dicom_writer import write_stack
from tests.preprocess_script import head_ct
from tests.volume3d.test_training import ALONE, ROOT, TINY, script_config
from volume3d.build_manifest import ManifestConfig
from volume3d.build_manifest import main as build_manifest
from volume3d.cases import cases_of_folds
from volume3d.config import InputConfig, VolumeSettings
from volume3d.dataset import EvalVolumes
from volume3d.inference import load_volume3d, predict_volumes
from volume3d.predict import PredictVolume3dConfig, command, main
from volume3d.preprocess import PreprocessConfig
from volume3d.preprocess import main as preprocess
from volume3d.series_volume import read_series_volume
from volume3d.train import main as train_script
from volume3d.volume import read_geometry, read_volume

SETTINGS = VolumeSettings(z_mm=4.0, size=48, head_mm=150.0, window_high_hu=500.0)
# Probabilities are sums of some 10^4 products in float32, whose rounding is 6e-8 each and mostly cancels; they lie
# in [0, 1], and other batch sizes sum in another order.
FLOAT32 = 1e-5


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """series/ with four phantoms, their volumes, folds, and model/ with two folds, trained for one epoch."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("predicted")
    table = make_dataset(PhantomConfig(str(root), n_series=4, seed=3, size=32, balanced=True, workers=1))
    train = pd.read_csv(root / "train.csv", dtype={"SeriesInstanceUID": str})
    train = train.drop(columns=["PatientAge", "PatientSex"])  # a phantom's header does not tell them
    train.to_csv(root / "train.csv", index=False)
    build_manifest(ManifestConfig(root, workers=1))
    preprocess(PreprocessConfig(**asdict(SETTINGS), data_dir=root, workers=1))
    assert len(train) == len(table) == len(list((root / "npy_volume").glob("*.json")))
    train.assign(fold=[0, 0, 1, 1], n_slices=20, series_type="CTA", plane="axial").to_csv(
        root / "train_2_folds.csv", index=False
    )
    net = replace(TINY.net, patient=True)
    train_script(replace(script_config(root), input=InputConfig((12, 32, 32), (0.5, 0.5), 60.0), net=net))
    (root / "broken").mkdir()
    (root / "broken" / "x.dcm").write_bytes(b"garbage" * 100)
    return root


def cached(root: Path, folds: tuple[int, ...]) -> pd.DataFrame:
    """The mean of what these folds' models say of the cached volumes, by SeriesInstanceUID."""
    cases = cases_of_folds(root, 2)
    by_fold = []
    for fold in folds:
        trained = load_volume3d(root / "model" / "volume3d" / f"fold-{fold}" / "last.pth", ALONE.device, fold)
        by_fold.append(predict_volumes(trained.model, EvalVolumes(cases, trained.config), trained.config, ALONE))
    return pd.DataFrame(np.mean(by_fold, axis=0), index=cases.table.SeriesInstanceUID, columns=list(LABELS))


def predict(root: Path, out: Path, *paths: Path, **settings) -> tuple[int, pd.DataFrame]:
    """Exit code and table."""
    given = {"model_dir": root / "model", "device": "cpu", "workers": 0} | settings
    code = main(PredictVolume3dConfig(tuple(paths), out=out / "volume3d.csv", **given))
    table = pd.read_csv(out / "volume3d.csv", dtype={"SeriesInstanceUID": str}, keep_default_na=False)
    assert list(table) == ["SeriesInstanceUID", *LABELS, "failure"]
    return code, table.set_index("SeriesInstanceUID")


@pytest.mark.parametrize(("fold", "folds"), [("all", (0, 1)), ("1", (1,))])
def test_dicom_files_give_the_probabilities_of_the_cached_volumes(root, tmp_path, fold, folds):
    code, table = predict(root, tmp_path, root / "series", fold=fold)
    expected = cached(root, folds)
    assert code == 0 and set(table.index) == set(expected.index) and (table.failure == "").all()
    found = table.loc[expected.index, list(LABELS)].to_numpy(float)
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32)
    assert np.ptp(found, axis=0).max() > 10 * FLOAT32  # series differ by more than that
    assert sorted(table[PRESENT], reverse=True) == table[PRESENT].tolist()


def test_the_volume_in_memory_is_the_cached_one_voxel_for_voxel(root, tmp_path):
    for files in find_series([root / "series"], tmp_path):
        volume = read_series_volume(files, SETTINGS)
        expected = read_volume(root, files.uid)
        assert volume.voxels.dtype == expected.dtype and np.array_equal(volume.voxels, expected)
        assert list(volume.spacing_mm) == read_geometry(root, files.uid)["spacing_mm"]


def test_age_sex_and_weight_are_those_of_the_header(tmp_path):
    output = {"PatientAge": "067Y", "PatientSex": "M", "PatientWeight": "65"}
    write_stack(tmp_path, head_ct(20), spacing=(3.0, 3.0, 3.0), **output)
    (files,) = find_series([tmp_path], tmp_path / "unpacked")
    # Years and kilograms less 55 and 75, over 20 each; each with a 1 for known.
    assert read_series_volume(files, SETTINGS).patient == pytest.approx((0.6, 1, -1, 1, -0.5, 1))


def test_series_in_an_archive_are_answered_as_their_folders_are(root, tmp_path):
    uids = sorted(path.name for path in (root / "series").iterdir())[:2]
    with zipfile.ZipFile(tmp_path / "heads.zip", "w") as archive:
        for uid in uids:
            for file in (root / "series" / uid).iterdir():
                archive.write(file, f"heads/{uid}/{file.name}")
    code, table = predict(root, tmp_path, tmp_path / "heads.zip")
    assert code == 0 and sorted(table.index) == uids
    np.testing.assert_allclose(
        table.loc[uids, list(LABELS)].to_numpy(float), cached(root, (0, 1)).loc[uids], rtol=0, atol=FLOAT32
    )


def test_what_cannot_be_read_is_listed_without_probabilities_and_the_others_are_answered(root, tmp_path, capsys):
    black = write_blank(tmp_path / "black")
    uid = sorted(path.name for path in (root / "series").iterdir())[0]
    paths = [root / "broken", tmp_path / "nowhere", black, root / "series" / uid]
    code, table = predict(root, tmp_path, *paths, workers=1)
    assert code == 3 and table.index.tolist() == [uid, "1.2.40", "broken", "nowhere"]
    output = capsys.readouterr().out
    assert "4 series, 3 could not be read" in output and "no answer for broken: " in output
    assert "x.dcm: not a readable DICOM file" in table.failure["broken"]
    assert "no such folder" in table.failure["nowhere"] and "all of one value" in table.failure["1.2.40"]
    assert (table.loc[["broken", "nowhere", "1.2.40"], list(LABELS)] == "").all(axis=None)
    np.testing.assert_allclose(
        table.loc[uid, list(LABELS)].to_numpy(float), cached(root, (0, 1)).loc[uid], rtol=0, atol=FLOAT32
    )


def write_blank(folder: Path) -> Path:
    write_stack(folder, np.full((8, 32, 32), -1000, np.int16), spacing=(3.0, 3.0, 3.0), SeriesInstanceUID="1.2.40")
    return folder


def test_a_model_that_fails_on_one_series_answers_the_next(root, tmp_path, monkeypatch):
    from volume3d import ensemble

    calls, whole = [], ensemble.predict_batch

    def failing(*args):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError("3 GB")
        return whole(*args)

    monkeypatch.setattr(ensemble, "predict_batch", failing)
    code, table = predict(root, tmp_path, root / "series")
    assert code == 3 and sorted(table.failure) == ["", "", "", "MemoryError: 3 GB"]


def test_a_file_that_is_left_out_of_a_series_is_told(root, tmp_path, capsys):
    write_stack(tmp_path / "head", head_ct(20), spacing=(3.0, 3.0, 3.0), SeriesInstanceUID="1.2.50")
    (tmp_path / "head" / "y.dcm").write_bytes(b"garbage" * 100)
    code, _ = predict(root, tmp_path, tmp_path / "head")
    assert code == 0 and "warning: 1.2.50: 1 files left out" in capsys.readouterr().out


def test_a_model_of_a_split_predicts_where_it_is_asked_for(root, tmp_path):
    shutil.copytree(root / "model" / "volume3d" / "fold-0", tmp_path / "model" / "volume3d" / "split")
    with pytest.raises(ValueError, match=r"volume3d: expected fold-<k>/last.pth, found none"):
        predict(root, tmp_path, root / "series", model_dir=tmp_path / "model")
    code, table = predict(root, tmp_path, root / "series", model_dir=tmp_path / "model", fold="split")
    expected = cached(root, (0,))
    assert code == 0
    np.testing.assert_allclose(table.loc[expected.index, list(LABELS)].to_numpy(float), expected, rtol=0, atol=FLOAT32)


def test_the_checkpoint_keeps_how_its_volumes_were_made_and_models_of_others_are_not_averaged(root, tmp_path):
    folder = shutil.copytree(root / "model", tmp_path / "model") / "volume3d"
    saved = load_checkpoint(folder / "fold-1" / "last.pth")
    assert from_saved(VolumeSettings, saved["config"]["volumes"]) == SETTINGS
    saved["config"]["volumes"]["z_mm"] = 2.0
    torch.save(saved, folder / "fold-1" / "last.pth")
    with pytest.raises(ValueError, match=r"fold-1/last.pth: expected a model of volumes as those of .*fold-0"):
        predict(root, tmp_path, root / "series", model_dir=tmp_path / "model")
    del saved["config"]["volumes"]
    torch.save(saved, folder / "fold-1" / "last.pth")
    with pytest.raises(ValueError, match=r"fold-1/last.pth: expected the settings of volume3d.preprocess, found none"):
        predict(root, tmp_path, root / "series", model_dir=tmp_path / "model", fold="1")
    with pytest.raises(ValueError, match="fold: expected all, a number or split, found best"):
        predict(root, tmp_path, root / "series", fold="best")


def test_volumes_made_differently_are_not_trained_on_together(root, tmp_path):
    for name in ("manifest.jsonl", "train_2_folds.csv", "npy_volume"):
        source = root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    described = sorted((tmp_path / "npy_volume").glob("*.json"))
    for path in described[::2]:
        path.write_text(path.read_text().replace('"head_mm": 150.0', '"head_mm": 140.0'))
    with pytest.raises(ValueError, match="npy_volume: expected volumes made with the same settings"):
        train_script(script_config(tmp_path))


def test_the_script_itself(root, tmp_path, monkeypatch, capsys):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    given = [root / "broken", "--out", tmp_path / "volume3d.csv", "--device", "cpu", "--workers", "0", "--model_dir"]
    args = [sys.executable, "-m", "volume3d.predict", *map(str, given), str(root / "model")]
    result = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 3, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == str(tmp_path / "volume3d.csv")
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, given), str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .*expected fold-<k>/last.pth, found none") as stop:
        command()
    assert isinstance(stop.value.code, str)  # Python prints it and ends with 1
    monkeypatch.setattr(sys, "argv", ["predict", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command()
    shown = capsys.readouterr().out
    assert all(f"--{field.name}" in shown for field in fields(PredictVolume3dConfig)[1:])
