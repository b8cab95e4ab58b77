"""Draws a contact sheet of the cache: a row for each kind of series, slices with the localizer circled, a projection.

    python scripts/contact_sheet.py --data_dir data --out phantoms.png

Reads  train_meta.csv, train_localizers.csv, npy_sequence/
Writes the picture (PNG)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script


@dataclass(frozen=True)
class ContactSheetConfig:
    data_dir: Path = Path("data")
    """folder that preprocess_data.py has filled"""
    cache_dir: Path | None = None
    """folder of the cache and tables from earlier steps, if it is not data_dir"""
    out: Path = Path("phantoms.png")
    """file of the picture"""


def main(config: ContactSheetConfig) -> None:
    from aneurysm.report.contact_sheet import contact_sheet

    contact_sheet(config.data_dir, config.out, config.cache_dir)
    print(config.out)


def command() -> None:
    run_script(main, ContactSheetConfig, __doc__)


if __name__ == "__main__":
    command()
