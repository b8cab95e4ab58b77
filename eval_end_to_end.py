"""Step 9: from DICOM to the 14 probabilities without the cache, on the series that the models were not trained on.

    python eval_end_to_end.py --data_dir data --model_dir model --fold all --workers 4
    python eval_end_to_end.py --data_dir data --model_dir model --encoder tf_efficientnet_lite0,convnext_base --limit 20
    python eval_end_to_end.py --data_dir fresh --bundle bundle --out fresh.csv
    python eval_end_to_end.py --model_dir model --export bundle

Prints the tables of eval_stage2.py, how far the answers are from those of the cached way (of eval_stage2.py
--header_modality), which series could not be read, and the seconds a series. --export packs the models of the folds
into a folder for inference instead; --bundle evaluates such a folder on all series, which it must not have seen.

Reads  series/<uid>/, train_<folds>_folds.csv, <model_dir>/<encoder>/fold-<k>/last.pth, .../fold-<k>/stage2/last.pth
Writes <model_dir>/<encoder>/oof_end_to_end.csv  14 probabilities of each held-out series; rows of other folds stay, and
       with --limit a file that holds more. With --bundle the table --out instead, with --export the bundle
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from aneurysm.config import run_script, subset
from aneurysm.inference.config import HeldOutConfig
from aneurysm.paths import DataPaths, ModelPaths, trained_folds


@dataclass(frozen=True)
class EvalEndToEndConfig(HeldOutConfig):
    data_dir: Path = Path("data")
    """folder that holds series/ and what create_folds.py has made"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    encoder: str = ""
    """which of the encoders in model_dir, several with commas between; may be left out where there is one"""
    fold: str = "all"
    """the fold to evaluate, by models that have not seen it: 0, 1, ... or all that have been trained; with --export
    also none, the models of all series"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    sync: str = ""
    """s3://bucket/prefix to which the table is copied, too"""
    bundle: Path | None = None
    """evaluate these models, trained on other data, on all series, which they must not have seen; the included ones are
    in model/bundle"""
    out: Path | None = None
    """with --bundle: a table for the 14 probabilities of each series"""
    export: Path | None = None
    """pack the models into this folder, and evaluate nothing"""
    calibrate: bool = False
    """with --bundle: fit scale and shift of the log-odds to these series' answers, and keep them in the bundle"""
    volume3d: str = ""
    """with --export: the second system answers, too: folds (its models of the same folds), pretrained (the weights in
    the box), or a file of volume3d.pretrain"""
    volume3d_weight: float = 0.5
    """with --volume3d: share of its log-odds in the answer; volume3d.eval --blend chooses one"""
    note: str = ""
    """with --export: what whoever uses the models should know, in a sentence; predict.py and its pages show it"""


def main(config: EvalEndToEndConfig) -> None:
    # What needs torch is imported here: --help does not wait for it.
    from aneurysm.folds.tables import chosen_folds

    if config.bundle is not None:
        evaluate_bundle(config)
        return
    encoders = [ModelPaths.only_one(config.model_dir, name.strip()) for name in config.encoder.split(",")]
    folds = trained_folds(
        encoders, chosen_folds(config.fold, config.folds, none=config.export is not None), "train_stage2.py"
    )
    if config.export is not None:
        export(config, encoders, folds)
    else:
        evaluate_folds(config, encoders, folds)


def evaluate_folds(config: EvalEndToEndConfig, encoders: list[ModelPaths], folds: list[int]) -> None:
    """The models of each fold on its series."""
    from aneurysm.folds.oof import write_predictions
    from aneurysm.folds.tables import read_folds
    from aneurysm.inference.evaluate import (
        compared,
        evaluated_encoders,
        failures_text,
        held_out_folds,
        predict_held_out,
        times_text,
    )
    from aneurysm.stage2.evaluate import encoder_text, ensemble_text
    from aneurysm.training.sync import copy_up

    series = read_folds(DataPaths(config.data_dir, config.cache_dir).cache, config.folds)
    held_out = held_out_folds(series, encoders, folds)
    rows, predictions, wall_s = predict_held_out(held_out, config.data_dir, subset(HeldOutConfig, config))
    evaluation = evaluated_encoders(rows, predictions)
    print(ensemble_text(evaluation) if len(evaluation) > 1 else encoder_text(evaluation[encoders[0].encoder]))
    for paths in encoders:
        written = write_predictions(
            evaluation[paths.encoder].table(), paths.oof_end_to_end_csv, limited=config.limit > 0
        )
        print(f"\n{written}")
        copy_up([paths.oof_end_to_end_csv], config.sync, config.model_dir)
        print(compared(evaluation[paths.encoder].table(), paths, config))
    print(f"\n{failures_text(predictions)}\n{times_text(predictions, wall_s)}")


def evaluate_bundle(config: EvalEndToEndConfig) -> None:
    """The models of a bundle on all series of the folder; several are averaged."""
    import pandas as pd

    from aneurysm.folds.tables import read_folds
    from aneurysm.inference.bundle import read_bundle, read_calibration, read_second
    from aneurysm.inference.evaluate import calibrated, failures_text, predict_held_out, times_text, together_text
    from aneurysm.labels import LABELS
    from aneurysm.stage2.dataset import check_unseen
    from aneurysm.tables import write_csv

    series = read_folds(DataPaths(config.data_dir, config.cache_dir).cache, config.folds)
    pairs = read_bundle(config.bundle)
    for pair in pairs:
        check_unseen(pair.stage2.about, series.SeriesInstanceUID.tolist(), pair.stage2.source)
    calibration = None if config.calibrate else read_calibration(config.bundle)
    everything = [(series, pairs, read_second(config.bundle))]
    rows, predictions, wall_s = predict_held_out(
        everything, config.data_dir, subset(HeldOutConfig, config), calibration
    )
    print(f"{config.bundle} on all series of {config.data_dir}, which it must not have seen")
    print(together_text(rows, predictions))
    print(f"\n{failures_text(predictions)}\n{times_text(predictions, wall_s)}")
    if config.calibrate:
        print(calibrated(config.bundle, rows, predictions))
    if config.out is not None:
        table = pd.DataFrame([p.probabilities for p in predictions], columns=list(LABELS), index=rows.index)
        write_csv(rows[["SeriesInstanceUID", "fold"]].join(table), config.out)
        print(config.out)


def export(config: EvalEndToEndConfig, encoders: list[ModelPaths], folds: list[int | None]) -> None:
    """Packs the models, with the temperatures that eval_stage2.py --temperature has fitted to them."""
    from aneurysm.inference.bundle import write_bundle
    from aneurysm.inference.models import read_pair
    from aneurysm.inference.second_system import second_system
    from aneurysm.stage2.temperature import read_temperature

    scales = {paths.encoder: read_temperature(paths, folds) for paths in encoders}
    for name, scale in scales.items():
        print(f"{name}: {scale.text}")
    pairs = (
        replace(read_pair(paths, fold), temperature=scales[paths.encoder].value) for fold in folds for paths in encoders
    )
    second = None
    if config.volume3d:
        second = second_system(config.model_dir, folds, config.volume3d, config.volume3d_weight)
    for path in write_bundle(config.export, pairs, config.note, second):
        print(path)


def command() -> None:
    run_script(main, EvalEndToEndConfig, __doc__)


if __name__ == "__main__":
    command()
