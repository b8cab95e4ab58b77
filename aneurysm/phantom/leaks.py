"""Tests for label leaks: how well tags, file sizes, ages and global image statistics predict a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MODELS = ("forest", "logistic")
PERCENTILES = (0, 1, 10, 50, 75, 90, 95, 99, 99.9, 100)


def leak_auc(features: pd.DataFrame, label: np.ndarray, model: str) -> float:
    """5-fold cross-validated AUC of one of MODELS, trained to predict the 0/1 label from the features.

    Without a leak it is about 0.5, with a standard deviation near 0.58 / sqrt(number of series).
    """
    numbers = pd.get_dummies(features).fillna(-1).astype(float)
    forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    splits = StratifiedKFold(5, shuffle=True, random_state=0)
    learner = forest if model == "forest" else logistic
    return roc_auc_score(label, cross_val_predict(learner, numbers, label, cv=splits, method="predict_proba")[:, 1])


def describe_series(folder: Path) -> dict:
    """Tags and global statistics of a series folder, as one row of features."""
    paths = sorted(folder.iterdir())
    files = [pydicom.dcmread(path) for path in paths]
    head = files[0]
    sizes = [path.stat().st_size for path in paths]
    values = np.concatenate([_values(file) for file in files])
    values = values if values.size else np.array([np.nan])
    picture = dict(zip((f"percentile_{p}" for p in PERCENTILES), np.percentile(values, PERCENTILES), strict=True))
    return picture | {
        "mean": values.mean(),
        "std": values.std(),
        "files": len(files),
        "bytes": sum(sizes),
        "largest": max(sizes),
        "syntax": head.file_meta.TransferSyntaxUID.name,
        "rows": head.Rows,
        "columns": head.Columns,
        "bits": head.BitsStored,
        "photometric": head.PhotometricInterpretation,
        "intercept": head.get("RescaleIntercept", np.nan),
        "slope": head.get("RescaleSlope", np.nan),
        "thickness": head.get("SliceThickness", np.nan),
        "spacing": head.get("SpacingBetweenSlices", np.nan),
        "pixel": head.get("PixelSpacing", [np.nan])[0],
        "first_number": head.get("InstanceNumber", np.nan),
        "tilt": head.get("ImageOrientationPatient", [np.nan] * 6)[5],
        "lowest": min(file.get("ImagePositionPatient", [np.nan] * 3)[2] for file in files),
        "uid": int(folder.name[-9:]),
    }


def _values(file: pydicom.Dataset) -> np.ndarray:
    """Physical values of every third row and column; empty without both NumberOfFrames and ImagePositionPatient."""
    if "NumberOfFrames" not in file and "ImagePositionPatient" not in file:
        return np.zeros(0)
    values = file.pixel_array[..., ::3, ::3].astype(np.float32).ravel()
    return values * float(file.get("RescaleSlope", 1)) + float(file.get("RescaleIntercept", 0))
