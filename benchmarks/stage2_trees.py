"""Gradient-boosted trees on the highest peaks of a series, beside the maxima of the maps: baselines for stage 2.

    PYTHONPATH=. python benchmarks/stage2_trees.py --train data/stage2 --test fresh --model_dir data/stage2/model

Trains on features of fold none (fresh_features.py) and evaluates on those of another data set, for which
extract_features.py --fold none has been run with the same --model_dir. Prints the scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from aneurysm.cache.features import SeriesFeatures, read_features
from aneurysm.config import run_script
from aneurysm.folds.tables import read_folds
from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.metrics import label_aucs, weighted_score
from aneurysm.paths import ModelPaths
from aneurysm.stage2.tokens import KINDS, PLANES

PEAKS, APART_MM, APART = 4, 7.0, 0.03  # peaks per series; one peak within both distances (slice axis, image)
N_SEEDS = 5


@dataclass(frozen=True)
class TreesConfig:
    train: Path = Path("data/stage2")
    """folder whose series the trees learn from"""
    test: Path = Path("fresh")
    """folder whose series they are evaluated on"""
    model_dir: Path = Path("data/stage2/model")
    """folder with <encoder>/fold-none/features/ of both"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    train_folds: int = 5
    """number of folds that the tables of `train` were made with"""
    test_folds: int = 5
    """the same of `test`"""


def main(config: TreesConfig) -> None:
    paths = ModelPaths.only_one(config.model_dir, config.encoder)
    known, by_location, _, truth = read(config.train, config.train_folds, paths)
    new, new_by_location, maxima, new_truth = read(config.test, config.test_folds, paths)
    present = fit_predict(known, truth[:, -1], new)
    n = len(LOCATIONS)
    location = fit_predict(by_location.reshape(len(truth) * n, -1), truth[:, :-1].ravel(),
                           new_by_location.reshape(len(new_truth) * n, -1)).reshape(-1, n)  # fmt: skip
    print(f"trained on {len(truth)} series, evaluated on {len(new_truth)}")
    for name, predicted in (("trees", np.column_stack([location, present])), ("maximum of the maps", maxima)):
        aucs = label_aucs(new_truth, predicted)
        print(f"{name:20} {aucs[-1]:.3f} {np.nanmean(aucs[:-1]):.3f} {weighted_score(aucs):.3f}")


def read(folder: Path, folds: int, paths: ModelPaths) -> tuple[np.ndarray, ...]:
    """Numbers of each series, of each location, maxima and truth (series, 14), for all series with features."""
    series = read_folds(folder, folds)
    series = series[[(paths.features(None) / f"{uid}.safetensors").exists() for uid in series.SeriesInstanceUID]]
    rows = []
    for row in series.itertuples():
        features = read_features(paths.features(None) / f"{row.SeriesInstanceUID}.safetensors")
        rows.append((of_series(features, row), of_locations(features, row), features.heatmap_max[0].max(axis=0)))
    return *(np.stack(part).astype(float) for part in zip(*rows, strict=True)), series[list(LABELS)].to_numpy(int)


def of_series(features: SeriesFeatures, row: pd.Series) -> list[float]:
    """Modality, plane, level of the maps, and for each peak its three highest slices, extent, position and location."""
    highest, x, y = (array[0].astype(float) for array in (features.heatmap_max, features.peak_x, features.peak_y))
    found, open_slices, numbers = highest[:, -1], np.ones(len(highest), bool), []
    while open_slices.any() and len(numbers) < 9 * PEAKS:
        peak = np.where(open_slices, found, -np.inf).argmax()
        near = np.abs(features.depth_mm - features.depth_mm[peak]) <= APART_MM
        near &= np.hypot(x[:, -1] - x[peak, -1], y[:, -1] - y[peak, -1]) <= APART
        heights = [*np.sort(found[near])[::-1][:3], -9.0, -9.0][:3]
        numbers += [*heights, near.sum(), features.depth_mm[peak], x[peak, -1], y[peak, -1], highest[peak, :-1].max(),
                    highest[peak, :-1].argmax()]  # fmt: skip
        open_slices &= ~near
    numbers += [np.nan] * (9 * PEAKS - len(numbers))
    return [*kind(row), len(found), found.mean(), np.percentile(found, 75), features.logits[0, :, -1].max(), *numbers]


def of_locations(features: SeriesFeatures, row: pd.Series) -> list[list[float]]:
    """For each location: modality, plane, number, the three highest slices of its map, other maxima, position."""
    highest, rows = features.heatmap_max[0].astype(float), []
    for number in range(len(LOCATIONS)):
        own, peak = np.sort(highest[:, number])[::-1], highest[:, number].argmax()
        others = np.delete(highest[:, :-1].max(axis=0), number)
        rows.append([*kind(row), number, *np.pad(own[:3], (0, 3 - len(own[:3])), mode="edge"), others.max(),
                     highest[:, -1].max(), highest[peak, -1], features.logits[0, :, number].max(),
                     features.depth_mm[peak], features.peak_x[0, peak, number],
                     features.peak_y[0, peak, number]])  # fmt: skip
    return rows


def kind(row: pd.Series) -> list[int]:
    """Modality and plane as numbers."""
    return [
        KINDS.index(row.series_type) if row.series_type in KINDS else -1,
        PLANES.index(row.plane) if row.plane in PLANES else -1,
    ]


def fit_predict(known: np.ndarray, truth: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(new,) probabilities, the mean over N_SEEDS seeds."""
    settings = {"max_iter": 150, "learning_rate": 0.04, "max_leaf_nodes": 8, "min_samples_leaf": 20,
                "l2_regularization": 1.0, "max_features": 0.5}  # fmt: skip
    models = [
        HistGradientBoostingClassifier(**settings, random_state=seed).fit(known, truth) for seed in range(N_SEEDS)
    ]
    return np.mean([model.predict_proba(new)[:, 1] for model in models], axis=0)


if __name__ == "__main__":
    run_script(main, TreesConfig, __doc__)
