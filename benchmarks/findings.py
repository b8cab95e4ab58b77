"""Findings of a bundle, with volume3d and without: localizers found, and marks on heads without an aneurysm.

    python make_phantoms.py --out data/fresh --n_series 120 --seed 2 --balanced true
    python -m benchmarks.findings --data_dir data/fresh --real healthy/scan1,healthy/scan2

Findings are the places that predict.py marks, one for each location; those within 10 mm of a higher one do not count. A
localizer is found if a finding lies within 5 mm. The models must not have seen the series. `--real` names
DICOM series of heads without an aneurysm.
"""

from __future__ import annotations

from collections.abc import Iterator
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

APART_MM, HIT_MM = 10.0, 5.0
SHARES, PER_SERIES = (0.5, 0.6, 0.7), (0.5, 1, 2, 4)


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


@dataclass(frozen=True)
class Findings:
    """Probabilities of the findings of one series.

    on_localizers  of the finding on each localizer, 0 where there is none
    elsewhere      of all other findings
    """

    on_localizers: list[float]
    elsewhere: list[float]
    positive: bool


def main(config: FindingsConfig) -> None:
    device = torch.device("cpu")
    predictors = {
        "stage 1 alone": Predictor(read_bundle(config.bundle), device),
        "with volume3d": Predictor.of_bundle(config.bundle, device),
    }
    for name, predictor in predictors.items():
        series = list(phantoms(config, predictor))
        real = predictor.predict_all(config.real, config.workers)
        evaluate(name, series, {one.folder.name: np.array([height for height, _ in separate(one)]) for one in real})


def evaluate(name: str, series: list[Findings], real: dict[str, np.ndarray]) -> None:
    """Prints the table of one predictor; `real` has the probabilities of the findings of each real head."""
    found = np.concatenate([one.on_localizers for one in series])
    elsewhere = np.sort(np.concatenate([one.elsewhere for one in series]))[::-1]
    healthy = [np.array(one.elsewhere) for one in series if not one.positive]
    print(f"{name}: {len(series)} series, {len(healthy)} without an aneurysm, {len(found)} localizers")
    for share in SHARES:
        threshold = float(np.quantile(found, 1 - share))
        marks = sum(int((own >= threshold).sum()) for own in healthy) / len(healthy)
        print(f"  {share:.0%} found from {threshold:.3f} on: {marks:.2f} findings on a head without an aneurysm")
        for folder, own in real.items():
            print(f"    {folder}: {(own >= threshold).sum()}, the highest {own.max(initial=0):.3f}")
    at = [(found >= elsewhere[min(int(n * len(series)), len(elsewhere) - 1)]).mean() for n in PER_SERIES]
    print("  found at 0.5, 1, 2 and 4 false findings a series: " + ", ".join(f"{share:.0%}" for share in at))


def phantoms(config: FindingsConfig, predictor: Predictor) -> Iterator[Findings]:
    """The findings of each series of `data_dir`; ValueError for one that cannot be read."""
    paths = DataPaths(config.data_dir)
    present = pd.read_csv(paths.train_csv).set_index("SeriesInstanceUID")[PRESENT]
    localizers = dict(list(read_localizers(paths.localizers_csv).groupby("SeriesInstanceUID")))
    folders = [paths.series / uid for uid in present.index]
    for prediction in tqdm(predictor.predict_all(folders, config.workers), total=len(folders), unit="series"):
        if prediction.failure:
            raise ValueError(f"{prediction.folder}: {prediction.failure}")
        uid = prediction.folder.name
        rows = localizers[uid].itertuples() if uid in localizers else ()
        places = [place for row in rows if (place := place_of(prediction, row)) is not None]
        found, others = [0.0] * len(places), []
        for probability, place in separate(prediction):
            near = [n for n, point in enumerate(places) if np.linalg.norm(place - point) <= HIT_MM]
            for n in near:
                found[n] = max(found[n], probability)
            others += [] if near else [probability]
        yield Findings(found, others, bool(present[uid]))


def place_of(prediction: Prediction, row: tuple) -> np.ndarray | None:
    """(3,) a localizer in the patient, LPS in mm; None if its image is not in the series."""
    frame = None if pd.isna(row.frame) else int(row.frame)
    try:
        image = prediction.series.mapping.source_index(row.SOPInstanceUID, frame)
    except ValueError:
        return None
    return np.asarray(prediction.series.geometry.to_patient((image, row.y, row.x)), float)


def separate(prediction: Prediction) -> list[tuple[float, np.ndarray]]:
    """Probability and place (LPS in mm) of the findings, highest first, none within APART_MM of a higher one."""
    kept: list[tuple[float, np.ndarray]] = []
    for peak in sorted(prediction.peaks, key=lambda peak: -peak.probability):
        place = np.array(peak.patient_mm)
        if all(np.linalg.norm(place - other) > APART_MM for _, other in kept):
            kept.append((peak.probability, place))
    return kept


if __name__ == "__main__":
    run_script(main, FindingsConfig, __doc__)
