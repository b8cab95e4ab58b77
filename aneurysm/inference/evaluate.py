"""Inference from DICOM on held-out series: scores, agreement with the predictions from the cache, times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from tqdm import tqdm

from aneurysm.escape import escape_control_characters
from aneurysm.folds.oof import read_predictions
from aneurysm.inference.bundle import CARD, write_calibration
from aneurysm.inference.config import HeldOutConfig
from aneurysm.inference.models import Pair, read_pair
from aneurysm.inference.platt import Platt, fit_platt
from aneurysm.inference.predict import Predictor
from aneurysm.inference.prediction import Prediction
from aneurysm.inference.second_system import SecondSystem
from aneurysm.labels import LABELS
from aneurysm.paths import DataPaths, ModelPaths
from aneurysm.scores import compared_text
from aneurysm.stage2.calibration import errors_table
from aneurysm.stage2.evaluate import BY_MAP, MAX_BASELINE, Evaluation, evaluation_text
from aneurysm.training.distributed import init_distributed

LARGEST, MEAN = 0.01, 0.002  # allowed difference from the predictions from the cache
SHOWN = 20  # series listed by name, at most


def held_out_folds(
    series: pd.DataFrame, encoders: Sequence[ModelPaths], folds: Sequence[int]
) -> Iterator[tuple[pd.DataFrame, list[Pair], None]]:
    """The series of each fold and the models that have not seen them; `series` is all of train_{F}_folds.csv."""
    for fold in folds:
        yield series[series.fold == fold], [read_pair(paths, fold) for paths in encoders], None


def predict_held_out(
    held_out: Iterable[tuple[pd.DataFrame, list[Pair], SecondSystem | None]],
    data_dir: Path,
    config: HeldOutConfig,
    calibration: Platt | None = None,
) -> tuple[pd.DataFrame, list[Prediction], float]:
    """All series, group after group; their predictions by the group's models (and volume3d); and the seconds taken.

    Prints a warning as soon as a series cannot be read.
    """
    device = init_distributed(config.device).device
    parts, predictions, wall_s = [], [], 0.0
    for rows, pairs, second in held_out:
        tta = config.tta == "mirror"
        more = {"precision": config.precision, "second": second, "calibration": calibration}
        predictor = Predictor(pairs, device, tta, config.batch_size, **more)
        for note in predictor.notes:
            print(f"note: {note}")
        own = rows.head(config.limit or None)
        folders = [DataPaths(data_dir).series / uid for uid in own.SeriesInstanceUID]
        known = zip(folders, own.series_type, strict=True)
        modality = {folder: kind for folder, kind in known if isinstance(kind, str) and not config.header_modality}
        start = perf_counter()
        done = predictor.predict_all(folders, config.workers, modality)
        for prediction in tqdm(done, total=len(folders), unit="series"):
            if prediction.failure:
                tqdm.write(escape_control_characters(f"warning: {prediction.folder.name}: {prediction.warnings[-1]}"))
            predictions.append(prediction)
        parts.append(own)
        wall_s += perf_counter() - start
    return pd.concat(parts, ignore_index=True), predictions, wall_s


def evaluated_encoders(rows: pd.DataFrame, predictions: Sequence[Prediction]) -> dict[str, Evaluation]:
    """What eval_stage2.py evaluates, for each encoder; unreadable series count, with the training prevalences."""
    n_failed = sum(bool(p.failure) for p in predictions)
    return {
        name: Evaluation(
            series=rows,
            stage2=np.array([p.by_encoder[name].stage2 for p in predictions]),
            max_baseline=np.array([p.by_encoder[name].max_baseline for p in predictions]),
            n_missing=n_failed,
            by_map=np.array([p.by_encoder[name].by_map for p in predictions]),
        )
        for name in predictions[0].by_encoder
    }


def together_text(rows: pd.DataFrame, predictions: Sequence[Prediction]) -> str:
    """The score tables of all models together, and of each system for comparison."""
    evaluation = evaluated_encoders(rows, predictions)
    together = replace(next(iter(evaluation.values())), stage2=np.array([p.probabilities for p in predictions]))
    by_model = {"all models": together.stage2}
    by_model |= {f"stage 2 of {name}": own.stage2 for name, own in evaluation.items()}
    known = [p.second for p in predictions if p.second is not None]
    if known:
        middle = np.mean(known, axis=0)
        by_model["volume3d"] = np.array([middle if p.second is None else p.second for p in predictions])
    by_model[MAX_BASELINE] = np.mean([own.max_baseline for own in evaluation.values()], axis=0)
    by_map = np.mean([own.by_map for own in evaluation.values()], axis=0)
    by_model |= {BY_MAP: by_map} if np.isfinite(by_map).all() else {}
    text = evaluation_text("all models", together, together.stage2)
    errors = errors_table(together.truth, {"all models": together.stage2}).map("{:.4f}".format)
    return f"{text}\n\n{compared_text(together.truth, by_model)}\n\n{errors.to_string()}"


def agreement_text(found: pd.DataFrame, cached: pd.DataFrame) -> str:
    """How far two tables of predictions (SeriesInstanceUID and the 14 labels) differ; lists the series that differ too
    much, and counts those that only one table has."""
    both = found.merge(cached, on="SeriesInstanceUID", suffixes=("", " cached"))
    alone = f"{len(found) - len(both)} series are only here, {len(cached) - len(both)} only there"
    if both.empty:
        return f"no series in common with the cached way; {alone}"
    ours, theirs = both[list(LABELS)].to_numpy(), both[[f"{label} cached" for label in LABELS]].to_numpy()
    difference = np.abs(ours - theirs)
    largest = pd.Series(difference.max(axis=1), both.SeriesInstanceUID)
    text = (
        f"{len(both)} series against the cached way: largest difference {largest.max():.4f} (allowed {LARGEST}), "
        f"mean {difference.mean():.5f} (allowed {MEAN}); {alone}"
    )
    if largest.max() <= LARGEST and difference.mean() <= MEAN:
        return text
    beyond = largest[largest > LARGEST].sort_values(ascending=False)
    listed = [f"  {uid}  {value:.4f}" for uid, value in beyond.items()]
    title = f"!!! DOES NOT AGREE WITH THE CACHED WAY: {len(beyond)} series differ by more than {LARGEST}"
    return "\n".join([text, title, *listed])


def compared(table: pd.DataFrame, paths: ModelPaths, config: HeldOutConfig) -> str:
    """Agreement with the predictions of eval_stage2.py, if it wrote them with the same settings."""
    cached = paths.oof_stage2_header_csv if config.header_modality else paths.oof_stage2_csv
    if not cached.exists():
        command = "eval_stage2.py --header_modality" if config.header_modality else "eval_stage2.py"
        return f"{cached} is not there to compare with: {command} writes it"
    if config.tta == "none":
        return f"not compared with {cached}, whose series were mirrored"
    return agreement_text(table, read_predictions(cached))


def calibrated(bundle: Path, rows: pd.DataFrame, predictions: Sequence[Prediction]) -> str:
    """Fits the calibration and writes it into the bundle; its effect on the series of the fit, which is optimistic."""
    read = np.array([not p.failure for p in predictions])
    truth = rows[list(LABELS)].to_numpy(int)[read]
    probabilities = np.array([p.probabilities for p in predictions])[read]
    scaling = fit_platt(truth, probabilities)
    write_calibration(bundle, scaling)
    table = errors_table(truth, {"before": probabilities, "after": scaling(probabilities)})
    return f"\n{scaling}\n{table.map('{:.4f}'.format).to_string()}\n{bundle / CARD}"


def failures_text(predictions: Iterable[Prediction]) -> str:
    """How many series were answered with the training prevalences, and why."""
    failed = [p for p in predictions if p.failure]
    lines = [escape_control_characters(f"  {p.folder.name}: {p.failure}") for p in failed[:SHOWN]]
    more = [f"  and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
    title = f"{len(failed)} series could not be read; answered with the training prevalence"
    return "\n".join([title, *lines, *more])


def times_text(predictions: Sequence[Prediction], wall_s: float) -> str:
    """Seconds a series by step, and how much of the time the encoder was busy."""
    steps = pd.DataFrame([p.seconds for p in predictions if p.seconds])
    if steps.empty:
        return "no series was read"
    split = ", ".join(f"{name} {mean:.2f}" for name, mean in steps.mean().items())
    busy = steps.encode.sum() / wall_s
    return f"{wall_s / len(predictions):.2f} s a series ({split}); the encoder was busy {busy:.0%} of the time"
