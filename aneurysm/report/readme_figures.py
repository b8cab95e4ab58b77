"""The figures of the README that show how series are trained on and answered, each with a line of what it shows."""

from __future__ import annotations

import re
from pathlib import Path

from aneurysm.cache.cache import open_cache
from aneurysm.config import from_saved
from aneurysm.folds.hard_negatives import read_hard_negatives
from aneurysm.folds.tables import read_folds, read_spots
from aneurysm.paths import DataPaths, ModelPaths
from aneurysm.report.drawing import Sheet
from aneurysm.report.example import held_out_example
from aneurysm.report.figures import roc_figure, series_figure
from aneurysm.report.pipeline_figure import pipeline_figure
from aneurysm.report.sampling_figure import sampled_pair, sampling_figure
from aneurysm.report.stage1_figure import stage1_figure
from aneurysm.report.stage2_figure import stage2_figure
from aneurysm.report.summary import STAGE2, held_out_steps, middle_positive
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.evaluate import trained_folds
from aneurysm.stage1.predict import read_stage1
from aneurysm.stage2.predict import load_stage2
from aneurysm.training.distributed import end_distributed, init_distributed


def only_folds(cache_dir: Path) -> int | None:
    """The number of folds that create_folds.py has made; None where it has made none, or several."""
    names = [re.fullmatch(r"train_stage1_(\d+)_folds\.csv", path.name) for path in cache_dir.glob("train_stage1_*.csv")]
    found = [int(name[1]) for name in names if name]
    return found[0] if len(found) == 1 else None


def draw_sampling(
    paths: DataPaths, model_dir: Path | None, encoder: str, folds: int, hard: Path | None, safe_mm: float, out: Path
) -> None:
    """Draws sampling.png into `out`, with the configuration of the models, or else the default.

    Where no two series can be compared, that is said. Raises ValueError as sampling_figure.
    """
    cache, config = open_cache(paths.root, paths.cache_dir), Stage1Config()
    if model_dir:
        model_paths = ModelPaths.only_one(model_dir, encoder)
        saved = read_stage1(model_paths.stage1(trained_folds(model_paths, range(folds))[0]))
        config = from_saved(Stage1Config, saved["config"]["stage1"])
    path = hard or cache.paths.hard_negatives
    hard_negatives = read_hard_negatives(path) if hard or path.exists() else {}
    try:
        pair = sampled_pair(read_spots(paths.cache, folds), hard_negatives)
    except LookupError as error:
        print(f"left out: sampling.png; {error}")
        return
    _save(sampling_figure(cache, pair, config, safe_mm), out / "sampling.png", " and ".join(one.uid for one in pair))


def draw_model_figures(paths: DataPaths, model_dir: Path, encoder: str, folds: int, out: Path) -> None:
    """Draws pipeline.png, stage1.png, stage2.png, roc.png and series.png into `out`.

    Raises ValueError naming the file where one is missing, or a model has seen the series that it is asked about.
    """
    world, cache = init_distributed("cpu"), open_cache(paths.root, paths.cache_dir)
    model_paths = ModelPaths.only_one(model_dir, encoder)
    example = held_out_example(cache, model_paths, folds, world)
    fold = example.series.fold
    _save(pipeline_figure(example), out / "pipeline.png", f"series {example.uid} of fold {fold}; {example.chosen}")
    _save(stage1_figure(example.stage1, example.config), out / "stage1.png", str(model_paths.stage1(fold)))
    path = model_paths.stage2(fold) / "last.pth"
    _save(stage2_figure(*load_stage2(path, unseen=fold)), out / "stage2.png", str(path))
    steps = held_out_steps(paths.cache, model_paths, folds, world)
    roc_figure(steps, out / "roc.png")
    print(f"drawn: {out / 'roc.png'}, {', '.join(step.name for step in steps)}")
    fold_of = read_folds(paths.cache, folds).set_index("SeriesInstanceUID").fold
    stage2 = next(step for step in steps if step.name == STAGE2)
    uid = middle_positive(stage2, lambda uid: (model_paths.features(fold_of[uid]) / f"{uid}.safetensors").exists())
    spots = read_spots(paths.cache, folds)
    own = spots[(spots.SeriesInstanceUID == uid) & (spots.kind == "positive")]
    series_figure(cache, model_paths, fold_of[uid], uid, own, out / "series.png")
    print(f"drawn: {out / 'series.png'}, series {uid} of fold {fold_of[uid]}: of the positive series the one in the "
          "middle, by stage 2's answer")  # fmt: skip
    end_distributed()


def _save(sheet: Sheet, out: Path, shown: str) -> None:
    sheet.save(out)
    print(f"drawn: {out}, {shown}")
