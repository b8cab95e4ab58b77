"""Predicts the second system's 14 probabilities of each series from DICOM files.

    python -m volume3d.predict scans/ --model_dir model --out volume3d.csv
    python -m volume3d.predict head.zip enhanced.dcm series/1.2.826... --fold 0
    python -m volume3d.predict scans/ --weights pretrained

Each PATH is the folder of one series, a folder of many, one file, or a .zip archive. Series are separated by their
SeriesInstanceUID, even if their files are mixed. Research use, not a medical device.

Reads  the DICOM files, <model_dir>/volume3d/fold-<k>/last.pth
Writes <out>  SeriesInstanceUID, the 14 probabilities (mean over the folds), failure; the most suspicious series first.
              A series that could not be read comes last, with the reason as its failure and no probabilities

Exit code 0: every series has a prediction. 3: some could not be read; they are listed with the reason. 1: bad input.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script

SOME_UNREAD = 3  # exit code


@dataclass(frozen=True)
class PredictVolume3dConfig:
    paths: tuple[Path, ...]
    """folders, files and .zip archives with DICOM series"""
    model_dir: Path = Path("model")
    """folder with volume3d/fold-<k>/"""
    fold: str = "all"
    """the fold whose model predicts: 0, 1, ..., the mean over all that have been trained, or split, for the model of
    volume3d.train --split"""
    weights: str = ""
    """instead of the folds' models: pretrained (the included weights), or a file that volume3d.pretrain wrote"""
    out: Path = Path("volume3d.csv")
    """file for the table"""
    device: str = "auto"
    """cpu, cuda, or auto"""
    workers: int = max(1, (os.cpu_count() or 2) - 1)
    """processes that read series ahead of the models; 0 reads in this one"""


def main(config: PredictVolume3dConfig) -> int:
    # Modules that need torch are imported here, so that --help stays fast.
    from tempfile import TemporaryDirectory

    from tqdm import tqdm

    from aneurysm.dicom.find import find_series, without_scouts
    from aneurysm.escape import escape_control_characters
    from aneurysm.paths import VOLUME3D, ModelPaths
    from aneurysm.tables import write_csv
    from aneurysm.training.distributed import all_devices
    from volume3d.ensemble import load_ensemble
    from volume3d.predict_series import predict_all, prediction_table

    device = all_devices(config.device)[0]
    ensemble = load_ensemble(ModelPaths(config.model_dir, VOLUME3D), config.fold, device, config.weights)
    with TemporaryDirectory() as unpacked:
        found, left_out = without_scouts(find_series(config.paths, Path(unpacked)))
        predictions = list(tqdm(predict_all(found, ensemble, config.workers), total=len(found), unit="series"))
    write_csv(prediction_table(predictions), config.out)
    for prediction in predictions:
        for warning in prediction.warnings:
            print(escape_control_characters(f"warning: {prediction.uid}: {warning}"))
    unread = [prediction for prediction in predictions if prediction.failure]
    for prediction in unread:
        print(escape_control_characters(f"no answer for {prediction.uid}: {prediction.failure}"))
    for sentence in left_out:
        print(escape_control_characters(f"left out: {sentence}"))
    n_models = len(ensemble.models)
    print(f"{len(predictions)} series, {len(unread)} could not be read; mean over {n_models} models\n{config.out}")
    return SOME_UNREAD if unread else 0


def command() -> None:
    run_script(main, PredictVolume3dConfig, __doc__, named="paths")


if __name__ == "__main__":
    command()
