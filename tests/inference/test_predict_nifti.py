"""predict.py --nifti: which files there are, what the map holds, and what is told where they cannot be written."""

import shutil
import sys
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from aneurysm.inference.bundle import read_bundle
from aneurysm.inference.predict import Predictor
from tests.dicom_writer import write_stack
from tests.end_to_end_data import CPU, head
from tests.inference.test_predict import SPACING, predict, records


@pytest.fixture(scope="module")
def root(trained_root, tmp_path_factory) -> Path:
    """bundle/, a series, and a folder without one."""
    root = tmp_path_factory.mktemp("predicted_nifti")
    shutil.copytree(trained_root / "bundle", root / "bundle")
    write_stack(root / "1.2.31", head(30, 20), spacing=SPACING, SeriesInstanceUID="1.2.31")
    (root / "nothing").mkdir()
    return root


def test_the_series_and_its_map_are_written_as_nifti_beside_the_pages(root, tmp_path, monkeypatch):
    maps, write = [], sys.modules["aneurysm.report.folder"].write_map_nifti
    monkeypatch.setattr(
        "aneurysm.report.folder.write_map_nifti", lambda *arguments: maps.append(arguments) or write(*arguments)
    )
    predict(root, "1.2.31", "nothing", out=tmp_path, nifti=True, workers=1)
    assert {path.name for path in tmp_path.glob("*.gz")} == {"1.2.31.nii.gz", "1.2.31_sac.nii.gz"}
    ((found, series, _),) = maps
    # 30 slices of 3 mm, a window about every 7 mm: the map has more slices, evenly spaced, from the first window's on.
    image, over = (nibabel.load(tmp_path / name) for name in ("1.2.31.nii.gz", "1.2.31_sac.nii.gz"))
    assert image.shape == (64, 64, 30) and over.shape[:2] == found.probability.shape[1:]
    heights = over.affine[2, 3] + over.affine[2, 2] * np.array([0, over.shape[2] - 1])
    np.testing.assert_allclose(heights, series.position_mm[found.slice[[0, -1]]], atol=0.01)
    values = over.get_fdata()
    assert 0 <= values.min() < values.max() <= 1 and values.max() == pytest.approx(found.probability.max(), abs=1e-6)
    predictor = Predictor(read_bundle(root / "bundle"), CPU, n_pictures=1, maps=True)
    prediction = predictor.predict_series(root / "1.2.31")
    np.testing.assert_allclose(prediction.sac_map.probability, found.probability, atol=1e-3)
    picture, box = prediction.pictures[0], prediction.sac_map.box
    own = prediction.sac_map.probability[prediction.sac_map.slice.tolist().index(picture.slice)]
    np.testing.assert_allclose(  # the mean of the maps of both folds and views, as the pictures have it
        cv2.resize(own, (box.width, box.height), interpolation=cv2.INTER_LINEAR), picture.heatmap[box.part], atol=2e-3
    )


def test_nifti_files_of_an_earlier_answer_do_not_outlive_it(root, tmp_path):
    series = shutil.copytree(root / "1.2.31", tmp_path / "1.2.31")
    arguments = {"out": tmp_path / "report", "nifti": True, "bundle": root / "bundle"}
    predict(tmp_path, series, **arguments)
    assert len(list((tmp_path / "report").glob("*.gz"))) == 2
    for file in series.iterdir():
        file.write_bytes(b"no image")
    assert predict(tmp_path, series, **arguments) == 3 and not list((tmp_path / "report").glob("*.gz"))


def test_a_nifti_file_that_cannot_be_written_is_told_and_costs_no_page(root, tmp_path, monkeypatch):
    def raising(*_) -> None:
        raise MemoryError("3 GB")

    monkeypatch.setattr("aneurysm.report.folder.write_series_nifti", raising)
    assert predict(root, "1.2.31", out=tmp_path, nifti=True) == 0
    warning = "1.2.31.nii.gz and its map could not be written: MemoryError: 3 GB"
    assert records(tmp_path)["1.2.31"]["warnings"] == [warning] and (tmp_path / "1.2.31.html").exists()
