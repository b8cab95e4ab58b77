"""Step 8: what stage 2 is worth on the series that it was not trained on, beside the plain maximum of stage 1.

    python eval_stage2.py --data_dir data --model_dir model --fold all
    python eval_stage2.py --data_dir data --model_dir model --fold 0 --gap
    python eval_stage2.py --data_dir data --model_dir model --encoders tf_efficientnet_lite0,convnext_base

Reads  train_<folds>_folds.csv, <model_dir>/<encoder>/fold-<k>/features/, <model_dir>/<encoder>/fold-<k>/stage2/last.pth
Writes <model_dir>/<encoder>/oof_stage2.csv  14 probabilities of each held-out series
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.data.tables import chosen_folds, read_folds, write_csv
from aneurysm.paths import ModelPaths
from aneurysm.stage2.gap import gap_table, gap_text
from aneurysm.stage2.judge import ensemble_text, folds_with_stage2, judge_folds, judged_text
from aneurysm.training.distributed import join_world, leave_world
from aneurysm.training.sync import copy_up


@dataclass(frozen=True)
class EvalStage2Config:
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    encoders: str = ""
    """several of them, with commas between: judges each, and their mean"""
    fold: str = "all"
    """the fold to judge: 0, 1, ... or all that have been trained"""
    folds: int = 5
    """number of folds that create_folds.py was told"""
    gap: bool = False
    """instead: how differently stage 1 speaks about series that it was trained on and about others"""
    sync: str = ""
    """s3://bucket/prefix to which the table is copied, too"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: EvalStage2Config) -> None:
    world = join_world(config.device)
    names = [name.strip() for name in config.encoders.split(",")] if config.encoders else [config.encoder]
    encoders = [ModelPaths.only_one(config.model_dir, name) for name in names]
    series, folds = read_folds(config.data_dir, config.folds), chosen_folds(config.fold, config.folds)
    if config.gap:
        for model_paths in encoders if world.is_main else ():
            print(f"{model_paths.folder}: {gap_text(gap_table(series, model_paths, folds))}")
    else:
        folds = folds_with_stage2(encoders, folds)
        judged = {paths.encoder: judge_folds(series, paths, folds, world) for paths in encoders}
        if world.is_main:
            print(ensemble_text(judged) if len(judged) > 1 else judged_text(judged[encoders[0].encoder]))
            for model_paths in encoders:
                write_csv(judged[model_paths.encoder].table(), model_paths.oof_stage2_csv)
                print(model_paths.oof_stage2_csv)
                copy_up([model_paths.oof_stage2_csv], config.sync, config.model_dir)
    leave_world()


def command() -> None:
    run_script(main, EvalStage2Config, __doc__)


if __name__ == "__main__":
    command()
