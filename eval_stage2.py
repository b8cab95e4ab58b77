"""Step 8: what stage 2 is worth on the series that it was not trained on, beside the maximum of stage 1.

    python eval_stage2.py --data_dir data --model_dir model --fold all
    python eval_stage2.py --data_dir data --model_dir model --fold all --header_modality
    python eval_stage2.py --data_dir fresh --model_dir model --fold none
    python eval_stage2.py --data_dir data --model_dir model --temperature --encoders tf_efficientnet_lite0,convnext_base

Reads  train_<folds>_folds.csv, <model_dir>/<encoder>/fold-<k>/features/, <model_dir>/<encoder>/fold-<k>/stage2/last.pth
Writes <model_dir>/<encoder>/oof_stage2.csv  14 probabilities of each held-out series, and those of other folds that it
       had before; with --header_modality oof_stage2_header.csv instead; with --temperature also
       .../oof_stage2_calibrated.csv, the same at the temperatures of their folds, reliability.png, and
       temperature.json, which eval_end_to_end.py --export packs
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.paths import DataPaths, ModelPaths, trained_folds


@dataclass(frozen=True)
class EvalStage2Config:
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    encoders: str = ""
    """several of them, with commas between: evaluates each, and their mean"""
    fold: str = "all"
    """the fold to evaluate: 0, 1, ... or all that have been trained; or none: the models of all series of another data
    set, on all series of this one, none of which they may have seen"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    header_modality: bool = False
    """give stage 2 the modality of the header (CTA or MR), as in the hidden test set, instead of that in train.csv"""
    temperature: bool = False
    """also scale the answers of each fold by a temperature fitted on the others, and keep one fitted on all for
    eval_end_to_end.py --export: better probabilities; AUC is unaffected"""
    sync: str = ""
    """s3://bucket/prefix to which the tables and the figure are copied, too"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: EvalStage2Config) -> None:
    # What needs torch is imported here: --help does not wait for it.
    from aneurysm.folds.oof import write_predictions
    from aneurysm.folds.tables import chosen_folds, read_folds
    from aneurysm.report.figures import write_calibrated
    from aneurysm.stage2.calibration import calibrate
    from aneurysm.stage2.evaluate import encoder_text, ensemble_text, evaluate_folds
    from aneurysm.training.distributed import end_distributed, init_distributed
    from aneurysm.training.sync import copy_up

    if config.temperature and config.header_modality:
        raise ValueError("expected --temperature or --header_modality, found both: a temperature is of other answers")
    world = init_distributed(config.device)
    names = [name.strip() for name in config.encoders.split(",")] if config.encoders else [config.encoder]
    encoders = [ModelPaths.only_one(config.model_dir, name) for name in names]
    series = read_folds(DataPaths(config.data_dir, config.cache_dir).cache, config.folds)
    folds = trained_folds(encoders, chosen_folds(config.fold, config.folds, none=True), "train_stage2.py")
    evaluation = {
        paths.encoder: evaluate_folds(series, paths, folds, world, config.header_modality) for paths in encoders
    }
    scaled = {name: calibrate(own) for name, own in evaluation.items()} if config.temperature else {}
    if world.is_main:
        print(ensemble_text(evaluation) if len(evaluation) > 1 else encoder_text(evaluation[encoders[0].encoder]))
        for paths in encoders:
            more = write_calibrated(paths, scaled[paths.encoder]) if scaled else []
            table = paths.oof_stage2_header_csv if config.header_modality else paths.oof_stage2_csv
            written = write_predictions(evaluation[paths.encoder].table(), table, limited=False)
            print(written, *more, sep="\n")
            copy_up([table, *more], config.sync, config.model_dir)
    end_distributed()


def command() -> None:
    run_script(main, EvalStage2Config, __doc__)


if __name__ == "__main__":
    command()
