"""The table of the scores of all steps, on held-out series and spots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.folds.oof import predictions_in_folds, read_predictions
from aneurysm.folds.tables import read_folds, read_spots
from aneurysm.folds.targets import localizers_by_series
from aneurysm.labels import LABELS, PRESENT
from aneurysm.metrics import score_table
from aneurysm.paths import ModelPaths, trained_folds
from aneurysm.stage1.dataset import label_windows
from aneurysm.stage1.predict import load_stage1
from aneurysm.stage2.evaluate import evaluate_folds
from aneurysm.training.distributed import DistContext

STAGE2 = "stage 2"


@dataclass(frozen=True)
class Step:
    """Predictions of one step for cases that its models have not seen."""

    name: str
    cases: str  # what is counted: windows of spots, or series
    truth: np.ndarray  # (cases, 14) 0 or 1
    predicted: np.ndarray  # (cases, 14) probabilities
    series: np.ndarray  # (cases,) SeriesInstanceUID of each


def held_out_steps(cache_dir: Path, model_paths: ModelPaths, n_folds: int, world: DistContext) -> list[Step]:
    """The steps in order: stage 1 on its spots, its maximum over slices, stage 2, and, if eval_end_to_end.py has run,
    all models from DICOM. Raises ValueError naming the file that is missing."""
    series = read_folds(cache_dir, n_folds)
    folds = trained_folds([model_paths], range(n_folds), "train_stage2.py")
    evaluation = evaluate_folds(series, model_paths, folds, world)
    uids = evaluation.series.SeriesInstanceUID.to_numpy()
    steps = [
        _stage1(cache_dir, model_paths, n_folds),
        Step("maximum over slices of stage 1", "series", evaluation.truth, evaluation.max_baseline, uids),
        Step(STAGE2, "series", evaluation.truth, evaluation.stage2, uids),
    ]
    if model_paths.oof_end_to_end_csv.exists():
        steps.append(_end_to_end(series, model_paths))
    return steps


def _stage1(cache_dir: Path, model_paths: ModelPaths, n_folds: int) -> Step:
    """Windows of spots, as predicted by eval_stage1.py."""
    windows = read_predictions(model_paths.oof_stage1_csv)
    fold = trained_folds([model_paths], sorted(windows.fold.unique()), "train_stage1.py")[0]
    _, config = load_stage1(model_paths.stage1(fold))
    localizers = localizers_by_series(read_spots(cache_dir, n_folds))
    truth = label_windows(windows, localizers, config.sampling.label_mm, config.input).astype(int)
    predicted = windows[list(LABELS)].to_numpy()
    return Step("stage 1", "windows of spots", truth, predicted, windows.SeriesInstanceUID.to_numpy())


def _end_to_end(series: pd.DataFrame, model_paths: ModelPaths) -> Step:
    """Series, as predicted by eval_end_to_end.py from DICOM files."""
    predictions = predictions_in_folds(model_paths.oof_end_to_end_csv, series)
    truth = series.set_index("SeriesInstanceUID").loc[predictions.index, list(LABELS)].to_numpy(int)
    predicted = predictions[list(LABELS)].to_numpy()
    return Step("end to end, from DICOM", "series", truth, predicted, predictions.index.to_numpy())


def steps_table(steps: Sequence[Step]) -> pd.DataFrame:
    """One row per step: number and kind of cases, AUC of Aneurysm Present, weighted score, 95 % bootstrap intervals."""
    rows = []
    for step in steps:
        scores = score_table(step.truth, step.predicted, groups=step.series)
        present, weighted = scores.loc[PRESENT], scores.loc["Weighted score"]
        rows.append({
            "held-out cases": f"{len(step.truth)} {step.cases}", "with an aneurysm": str(int(present.positives)),
            f"AUC {PRESENT}": _with_interval(present), "weighted score": _with_interval(weighted),
        })  # fmt: skip
    return pd.DataFrame(rows, index=pd.Index([step.name for step in steps], name="step"))


def markdown(table: pd.DataFrame) -> str:
    """A table of strings as Markdown."""
    rows = [[table.index.name, *table.columns], ["---"] * (1 + len(table.columns))]
    rows += [[name, *values] for name, values in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _with_interval(row: pd.Series) -> str:
    if not np.isfinite(row.auc):
        return "-"
    return f"{row.auc:.3f} ({row.low:.3f} to {row.high:.3f})" if np.isfinite(row.low) else f"{row.auc:.3f}"


def middle_positive(step: Step, drawable: Callable[[str], bool]) -> str | None:
    """Of the positive series that can be drawn, the one with the median probability; None if there is none."""
    positive = [i for i in np.flatnonzero(step.truth[:, -1] == 1) if drawable(step.series[i])]
    positive.sort(key=lambda i: step.predicted[i, -1])
    return str(step.series[positive[len(positive) // 2]]) if positive else None
