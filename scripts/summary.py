"""Writes a page with the scores of all steps, and figures; run it after the last eval script.

    python scripts/summary.py --data_dir data --model_dir model

Reads  train_<folds>_folds.csv, train_stage1_<folds>_folds.csv, npy_sequence/, and in <model_dir>/<encoder>/
       oof_stage1.csv, fold-<k>/features/, fold-<k>/stage2/last.pth, oof_end_to_end.csv if it exists
Writes <model_dir>/<encoder>/summary.md  the table; roc.png  ROC curves; series.png  one series slice by slice
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aneurysm.cache.cache import open_cache
from aneurysm.config import run_script
from aneurysm.folds.tables import read_folds, read_spots
from aneurysm.paths import DataPaths, ModelPaths, atomic_write
from aneurysm.report.figures import roc_figure, series_figure
from aneurysm.report.summary import STAGE2, Step, held_out_steps, markdown, middle_positive, steps_table
from aneurysm.training.distributed import end_distributed, init_distributed


@dataclass(frozen=True)
class SummaryConfig:
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    model_dir: Path = Path("model")
    """folder with <encoder>/fold-<k>/"""
    cache_dir: Path | None = None
    """folder of the cache and tables from earlier steps, if it is not data_dir"""
    encoder: str = ""
    """which encoder in model_dir; optional if there is only one"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""


def main(config: SummaryConfig) -> None:
    world = init_distributed("cpu")
    model_paths = ModelPaths.only_one(config.model_dir, config.encoder)
    steps = held_out_steps(DataPaths(config.data_dir, config.cache_dir).cache, model_paths, config.folds, world)
    table = steps_table(steps)
    roc_figure(steps, model_paths.folder / "roc.png")
    text = (
        f"# {model_paths.encoder}: scores on what the models have not seen\n\n{markdown(table)}\n\n"
        "In brackets: 95 % intervals from a bootstrap over series.\n\n![ROC curves](roc.png)\n"
    )
    page = model_paths.folder / "summary.md"
    text += one_series(config, model_paths, steps)
    with atomic_write(page) as beside:
        beside.write_text(text)
    print(f"{table.to_string()}\n{page}")
    end_distributed()


def one_series(config: SummaryConfig, model_paths: ModelPaths, steps: Sequence[Step]) -> str:
    """Draws the positive series of median probability; returns the end of the page, "" if there is none to draw."""
    cache = open_cache(config.data_dir, config.cache_dir)
    fold = read_folds(cache.paths.cache, config.folds).set_index("SeriesInstanceUID").fold
    stage2 = next(step for step in steps if step.name == STAGE2)
    uid = middle_positive(stage2, lambda uid: (model_paths.features(fold[uid]) / f"{uid}.safetensors").exists())
    if uid is None:
        return ""
    spots = read_spots(cache.paths.cache, config.folds)
    own = spots[(spots.SeriesInstanceUID == uid) & (spots.kind == "positive")]
    series_figure(cache, model_paths, fold[uid], uid, own, model_paths.folder / "series.png")
    return (
        f"\nSeries {uid}, held out in fold {fold[uid]}: of the series with an aneurysm the one in the middle, by stage "
        "2's answer.\n\n![One series, slice by slice](series.png)\n"
    )


def command() -> None:
    run_script(main, SummaryConfig, __doc__)


if __name__ == "__main__":
    command()
