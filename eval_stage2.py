"""Step 8: what stage 2 is worth on the series that it was not trained on, beside the plain maximum of stage 1.

    python eval_stage2.py --data_dir data --model_dir model --fold all
    python eval_stage2.py --data_dir data --model_dir model --fold all --header_modality
    python eval_stage2.py --data_dir data --model_dir model --fold 0 --gap
    python eval_stage2.py --data_dir fresh --model_dir model --fold none
    python eval_stage2.py --data_dir data --model_dir model --temperature --encoders tf_efficientnet_lite0,convnext_base

Reads  train_<folds>_folds.csv, <model_dir>/<encoder>/fold-<k>/features/, <model_dir>/<encoder>/fold-<k>/stage2/last.pth
Writes <model_dir>/<encoder>/oof_stage2.csv  14 probabilities of each held-out series, and those of other folds that it
       had before; with --header_modality oof_stage2_header.csv instead; with --temperature also
       .../oof_stage2_calibrated.csv, the same at the temperatures of their folds, reliability.png, and
       temperature.json, which eval_end_to_end.py --export takes along
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.paths import DataPaths, ModelPaths


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
    """several of them, with commas between: judges each, and their mean"""
    fold: str = "all"
    """the fold to judge: 0, 1, ... or all that have been trained; or none: the models of all series of another data
    set, on all series of this one, none of which they may have seen"""
    folds: int = 5
    """number of folds that create_folds.py was told"""
    header_modality: bool = False
    """tell stage 2 CTA or MR, as the header of a hidden series does, and not what train.csv says"""
    gap: bool = False
    """instead: how differently stage 1 speaks about series that it was trained on and about others"""
    temperature: bool = False
    """also scale the answers of each fold by a temperature fitted on the others, and keep one fitted on all for
    eval_end_to_end.py --export: better probabilities; AUC is unaffected"""
    sync: str = ""
    """s3://bucket/prefix to which the tables and the figure are copied, too"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: EvalStage2Config) -> None:
    # What needs torch is imported here: --help does not wait for it.
    from aneurysm.training.distributed import end_distributed

    if config.gap and config.temperature:
        raise ValueError(
            "expected --gap or --temperature, found both: the gap is of stage 1, the temperature of stage 2"
        )
    for other in ("gap", "temperature") if config.header_modality else ():
        if getattr(config, other):
            raise ValueError(f"expected --{other} or --header_modality, found both: --{other} is of other answers")
    (compare_gap if config.gap else evaluate)(config)
    end_distributed()


def encoders_of(config: EvalStage2Config) -> list[ModelPaths]:
    names = [name.strip() for name in config.encoders.split(",")] if config.encoders else [config.encoder]
    return [ModelPaths.only_one(config.model_dir, name) for name in names]


def compare_gap(config: EvalStage2Config) -> None:
    from aneurysm.folds.tables import chosen_folds, read_folds
    from aneurysm.stage2.generalization_gap import gap_table, gap_text
    from aneurysm.training.distributed import init_distributed

    world = init_distributed(config.device)
    folder = DataPaths(config.data_dir, config.cache_dir).cache
    series, folds = read_folds(folder, config.folds), chosen_folds(config.fold, config.folds, none=True)
    for paths in encoders_of(config) if world.is_main else ():
        print(f"{paths.folder}: {gap_text(gap_table(series, paths, folds))}")


def evaluate(config: EvalStage2Config) -> None:
    from aneurysm.folds.oof import write_answers
    from aneurysm.folds.tables import chosen_folds, read_folds
    from aneurysm.report.figures import write_calibrated
    from aneurysm.stage2.calibration import calibrate
    from aneurysm.stage2.evaluate import encoder_text, ensemble_text, evaluate_folds, folds_with_stage2
    from aneurysm.training.distributed import init_distributed
    from aneurysm.training.sync import copy_up

    world, encoders = init_distributed(config.device), encoders_of(config)
    series = read_folds(DataPaths(config.data_dir, config.cache_dir).cache, config.folds)
    folds = folds_with_stage2(encoders, chosen_folds(config.fold, config.folds, none=True))
    evaluation = {
        paths.encoder: evaluate_folds(series, paths, folds, world, config.header_modality) for paths in encoders
    }
    scaled = {name: calibrate(own) for name, own in evaluation.items()} if config.temperature else {}
    if not world.is_main:
        return
    print(ensemble_text(evaluation) if len(evaluation) > 1 else encoder_text(evaluation[encoders[0].encoder]))
    for paths in encoders:
        more = write_calibrated(paths, scaled[paths.encoder]) if scaled else []
        table = paths.oof_stage2_header_csv if config.header_modality else paths.oof_stage2_csv
        written = write_answers(evaluation[paths.encoder].table(), table, limited=False)
        print(written, *more, sep="\n")
        copy_up([table, *more], config.sync, config.model_dir)


def command() -> None:
    run_script(main, EvalStage2Config, __doc__)


if __name__ == "__main__":
    command()
