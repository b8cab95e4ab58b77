"""Findings of a bundle, with volume3d and without: localizers found, and false ones on heads without an aneurysm.

    python make_phantoms.py --out data/fresh --n_series 120 --seed 2 --balanced true
    python -m benchmarks.findings --data_dir data/fresh --real healthy/scan1,healthy/scan2

Findings are the places that predict.py marks, one for each location; those within 10 mm of a higher one do not count. A
localizer is found if a finding lies within 5 mm. The models must not have seen the series. `--real` names
DICOM series of heads without an aneurysm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from aneurysm.config import run_script
from aneurysm.folds.localizers import read_localizers
from aneurysm.inference.bundle import read_bundle
from aneurysm.inference.predict import Predictor
from aneurysm.inference.prediction import Prediction
from aneurysm.labels import PRESENT
from aneurysm.package import bundle_folder
from aneurysm.paths import DataPaths
from aneurysm.stage1.evaluate import HIT_MM
from aneurysm.stage1.localisation import POINT, froc, match, suppress

APART_MM = 10.0
FOUND = (0.5, 0.6, 0.7)


@dataclass(frozen=True)
class FindingsConfig:
    data_dir: Path = Path("data/fresh")
    """folder of make_phantoms.py"""
    real: tuple[Path, ...] = ()
    """folders of real DICOM series without an aneurysm"""
    bundle: Path = field(default_factory=bundle_folder)
    """a bundle with volume3d; by default the included one"""
    workers: int = 1
    """processes that decode ahead"""


def main(config: FindingsConfig) -> None:
    device, paths = torch.device("cpu"), DataPaths(config.data_dir)
    present = pd.read_csv(paths.train_csv).set_index("SeriesInstanceUID")[PRESENT]
    localizers, folders = read_localizers(paths.localizers_csv), [paths.series / uid for uid in present.index]
    predictors = {
        "stage 1 alone": Predictor(read_bundle(config.bundle), device),
        "with volume3d": Predictor.of_bundle(config.bundle, device),
    }
    for name, predictor in predictors.items():
        predictions = predict(predictor, folders, config.workers)
        real = findings(predict(predictor, config.real, config.workers))
        print(f"{name}: {len(folders)} series, {(present == 0).sum()} without an aneurysm")
        evaluate(findings(predictions), places(predictions, localizers), present, real)


def predict(predictor: Predictor, folders: Sequence[Path], workers: int) -> list[Prediction]:
    """The prediction of each folder; ValueError for one that cannot be read."""
    predictions = []
    for prediction in tqdm(predictor.predict_all(folders, workers), total=len(folders), unit="series"):
        if prediction.failure:
            raise ValueError(f"{prediction.folder}: {prediction.failure}")
        predictions.append(prediction)
    return predictions


def findings(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """One row per finding: SeriesInstanceUID (of its folder), probability, POINT (LPS); none near a higher one."""
    rows = [(one.folder.name, peak.probability, *peak.patient_mm) for one in predictions for peak in one.peaks]
    return suppress(pd.DataFrame(rows, columns=["SeriesInstanceUID", "probability", *POINT]), APART_MM)


def places(predictions: Sequence[Prediction], localizers: pd.DataFrame) -> pd.DataFrame:
    """SeriesInstanceUID and POINT (LPS) of each localizer; those whose image is not in the series are left out."""
    series, rows = {one.folder.name: one.series for one in predictions}, []
    for row in localizers.itertuples():
        own, frame = series[row.SeriesInstanceUID], None if pd.isna(row.frame) else int(row.frame)
        try:
            image = own.mapping.source_index(row.SOPInstanceUID, frame)
        except ValueError as error:
            print(f"left out: {error}")
            continue
        rows.append((row.SeriesInstanceUID, *own.geometry.to_patient((image, row.y, row.x)).tolist()))
    return pd.DataFrame(rows, columns=["SeriesInstanceUID", *POINT])


def evaluate(found: pd.DataFrame, localizers: pd.DataFrame, present: pd.Series, real: pd.DataFrame) -> None:
    """Prints the table of one predictor from its findings; `present` (by series) is 0 for heads without an aneurysm."""
    best = np.maximum(match(found, localizers, HIT_MM)[0], 0)
    healthy = found[found.SeriesInstanceUID.map(present) == 0]
    for share in FOUND:
        threshold = float(np.quantile(best, 1 - share))
        rate = (healthy.probability >= threshold).sum() / (present == 0).sum()
        print(f"  {share:.0%} of {len(best)} localizers from {threshold:.3f} on; {rate:.2f} on a head without any")
        for folder, own in real.groupby("SeriesInstanceUID").probability:
            print(f"    {folder}: {(own >= threshold).sum()}, the highest {own.max():.3f}")
    print(froc(found, localizers, len(present), HIT_MM).round(3).to_string(index=False))


if __name__ == "__main__":
    run_script(main, FindingsConfig, __doc__)
