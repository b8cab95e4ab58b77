"""Draws the figures of the README, from a data folder and, where one is told, from models.

    python scripts/figures.py --data_dir data --out content
    python scripts/figures.py --data_dir data --model_dir model --out content

Reads  series/, train_meta.csv, train_localizers.csv, npy_sequence/, train_<folds>_folds.csv,
       train_stage1_<folds>_folds.csv, hard_negatives.parquet where it is there; with --model_dir, in
       <model_dir>/<encoder>/, oof_stage1.csv, fold-<k>/last.pth, fold-<k>/features/ and fold-<k>/stage2/last.pth
Writes phantoms.png  a row for each kind of series, slices with the localizer circled, and a projection
       sampling.png  where positive, safe and hard negative windows come from
       with --model_dir, of series that the models have not seen: pipeline.png  from DICOM to the answer;
       stage1.png, stage2.png  the architectures; roc.png, series.png  as scripts/summary.py draws them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.labels import SAFE_MM
from aneurysm.paths import DataPaths
from aneurysm.report.contact_sheet import contact_sheet
from aneurysm.report.readme_figures import draw_model_figures, draw_sampling, only_folds


@dataclass(frozen=True)
class FiguresConfig:
    data_dir: Path = Path("data")
    """folder that preprocess_data.py and create_folds.py have filled"""
    model_dir: Path | None = None
    """folder with <encoder>/fold-<k>/; without it, what needs no models is drawn"""
    cache_dir: Path | None = None
    """folder that holds what earlier steps made beside models, where it is not data_dir"""
    encoder: str = ""
    """which of the encoders in model_dir; may be left out where there is one"""
    folds: int = 0
    """number of folds that create_folds.py was told; 0 takes the only one that there is"""
    hard_negatives: Path | None = None
    """hard_negatives.parquet or an original f_dict_hard.pkl; by default the first, in cache_dir, where it is there"""
    safe_mm: float = SAFE_MM
    """distance that create_folds.py was told"""
    out: Path = Path("content")
    """folder for the figures"""


def main(config: FiguresConfig) -> None:
    paths = DataPaths(config.data_dir, config.cache_dir)
    contact_sheet(paths.root, config.out / "phantoms.png", paths.cache_dir)
    print(f"drawn: {config.out / 'phantoms.png'}")
    folds = config.folds or only_folds(paths.cache)
    if folds is None:
        print(f"left out: sampling.png; {paths.cache} has no folds, or more than one, and --folds names none")
        return
    draw_sampling(paths, config.model_dir, config.encoder, folds, config.hard_negatives, config.safe_mm,
                  config.out)  # fmt: skip
    if config.model_dir:
        draw_model_figures(paths, config.model_dir, config.encoder, folds, config.out)


def command() -> None:
    run_script(main, FiguresConfig, __doc__)


if __name__ == "__main__":
    command()
