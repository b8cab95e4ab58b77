"""A label must follow from the picture alone: nothing about the files, nor the picture as a whole, may tell it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aneurysm.data.phantom.dataset import PhantomConfig, make_dataset
from aneurysm.data.phantom.plan import make_plan
from aneurysm.data.phantom.series import set_up
from aneurysm.labels import PRESENT

MOST = 0.6
MODELS = {
    "forest": RandomForestClassifier(200, min_samples_leaf=3, random_state=0, n_jobs=1),
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)),
}


def auc(features: pd.DataFrame, label: np.ndarray, model: str) -> float:
    """Cross-validated AUC of what the features tell about the label."""
    numbers = pd.get_dummies(features).fillna(-1).astype(float)
    splits = StratifiedKFold(5, shuffle=True, random_state=0)
    guess = cross_val_predict(MODELS[model], numbers, label, cv=splits, method="predict_proba")[:, 1]
    return roc_auc_score(label, guess)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[pd.DataFrame, np.ndarray]:
    """Features and labels of 200 tiny series whose geometry is real and whose files are read back."""
    out = tmp_path_factory.mktemp("leaks")
    make_dataset(PhantomConfig(out=str(out), n_series=200, seed=11, size=32, clean=True, balanced=True, workers=2))
    train = pd.read_csv(out / "train.csv")
    rows = [describe(out / "series" / uid) for uid in train.SeriesInstanceUID]
    features = pd.concat([pd.DataFrame(rows), train[["PatientAge", "PatientSex", "Modality"]]], axis=1)
    features["row"] = np.arange(len(train))
    features["uid"] = [int(uid[-9:]) for uid in train.SeriesInstanceUID]
    return features, train[PRESENT].to_numpy()


def describe(folder: Path) -> dict:
    """What can be said of a series without looking for an aneurysm."""
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    head = files[0]
    values = np.stack([file.pixel_array for file in files]).astype(float) * head.RescaleSlope + head.RescaleIntercept
    tissue = values[values > np.median(values)]
    return {
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "rows": head.Rows,
        "columns": head.Columns,
        "pixel_mm": float(head.PixelSpacing[0]),
        "slice_mm": float(head.SpacingBetweenSlices),
        "lowest_mm": min(float(file.ImagePositionPatient[2]) for file in files),
        "tilt": float(head.ImageOrientationPatient[5]),
        "mean": values.mean(),
        "std": values.std(),
        **{f"percentile_{p}": np.percentile(values, p) for p in (1, 10, 50, 75, 90, 95, 99)},
        "tissue_std": tissue.std(),
    }


def set_ups(n_series: int) -> tuple[pd.DataFrame, np.ndarray]:
    """What is decided of each series before its picture, quirks and all."""
    plan = make_plan(n_series, seed=2, clean=False, balanced=True)
    rows = []
    for case in plan:
        quirks, acquisition, _ = set_up(case, 2, 256, False)
        shape = dict(zip(("slices", "rows", "columns"), acquisition.grid.shape, strict=True))
        matrix = dict(enumerate(acquisition.grid.matrix.ravel()))
        centre = dict(zip("xyz", acquisition.grid.origin, strict=True))
        rows.append(
            {"modality": case.modality, "plane": case.plane, "age": case.age, "sex": case.sex, "masked": case.masked}
            | {f"step_{k}": v for k, v in matrix.items()} | vars(quirks) | shape | centre
        )  # fmt: skip
    return pd.DataFrame(rows), np.array([bool(case.locations) for case in plan], int)


@pytest.mark.parametrize("model", MODELS)
def test_files_ages_and_the_picture_as_a_whole_do_not_tell_who_has_an_aneurysm(made, model):
    features, label = made
    assert label.mean() == 0.5
    assert auc(features, label, model) < MOST


@pytest.mark.parametrize("model", MODELS)
def test_neither_do_planes_quirks_poses_and_matrices(model):
    features, label = set_ups(800)
    assert auc(features, label, model) < 0.56


@pytest.mark.parametrize("model", MODELS)
def test_the_same_measurement_finds_a_leak_where_there_is_one(made, model):
    features, label = made
    leaking = features.assign(pixel_mm=features.pixel_mm + 3 * label)
    assert auc(leaking, label, model) > 0.9
