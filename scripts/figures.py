"""Draws the figures of the README from a data folder that has been preprocessed.

    python scripts/figures.py --data_dir data --out content

Reads  train_meta.csv, train_localizers.csv, npy_sequence/ of the data folder
Writes phantoms.png: a row for each kind of series, slices with the localizer circled, and a projection
"""

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.report.contact_sheet import contact_sheet


@dataclass(frozen=True)
class FiguresConfig:
    data_dir: Path = Path("data")
    """folder that preprocess_data.py has filled"""
    out: Path = Path("content")
    """folder for the figures"""


def main(config: FiguresConfig) -> None:
    contact_sheet(config.data_dir, config.out / "phantoms.png")
    print(f"drawn: {config.out / 'phantoms.png'}")


def command() -> None:
    run_script(main, FiguresConfig, __doc__)


if __name__ == "__main__":
    command()
