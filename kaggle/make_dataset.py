"""Makes the folder to upload to Kaggle as a dataset: code, models, and the decoders that Kaggle's image lacks.

    PYTHONPATH=. python kaggle/make_dataset.py --bundle bundle --id user/aneurysm-bundle --out dataset --python 3.11

Reads  aneurysm/, volume3d/, kaggle_inference.py, LICENSE, requirements.txt, the bundle (the included one, or from
       eval_end_to_end.py --export)
Writes <out>/  aneurysm/, volume3d/, kaggle_inference.py, LICENSE, bundle/, wheels/, and
       dataset-metadata.json for the kaggle CLI
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.inference.bundle import CARD
from aneurysm.package import bundle_folder
from aneurysm.paths import atomic_write

ROOT = Path(__file__).parents[1]
CODE = ("aneurysm", "volume3d", "kaggle_inference.py", "LICENSE")
DECODERS = ("pylibjpeg", "pylibjpeg-rle", "pylibjpeg-openjpeg", "python-gdcm")
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_27_x86_64", "manylinux_2_28_x86_64")
METADATA = "dataset-metadata.json"


@dataclass(frozen=True)
class DatasetConfig:
    bundle: Path = field(default_factory=bundle_folder)
    """the models: the included ones, or a folder from eval_end_to_end.py --export"""
    out: Path = Path("dataset")
    """folder to make; replaces an existing dataset"""
    id: str = ""
    """required: the dataset's address on Kaggle, your user name, a slash, and a name of 3 to
    50 lower-case letters, digits and hyphens"""
    title: str = "Aneurysm models and code"
    """the dataset's title on Kaggle, 6 to 50 characters"""
    python: str = ""
    """version of Python in Kaggle's image (such as 3.11) to download decoder wheels for; empty: no wheels"""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+/[a-z0-9-]{3,50}", self.id):
            raise ValueError(f"id: expected user/name, the name of 3 to 50 of a-z, 0-9 and -, found {self.id!r}")
        if not 6 <= len(self.title) <= 50:
            raise ValueError(f"title: expected 6 to 50 characters, found {len(self.title)}")


def main(config: DatasetConfig) -> None:
    if not (config.bundle / CARD).exists():
        raise ValueError(f"{config.bundle}: expected a bundle, found no {CARD}; eval_end_to_end.py --export makes one")
    if config.out.exists() and any(config.out.iterdir()) and not (config.out / METADATA).exists():
        raise ValueError(f"{config.out}: expected a dataset or nothing, found other files")
    with atomic_write(config.out.absolute()) as beside:
        beside.mkdir()
        copy_code(beside)
        shutil.copytree(config.bundle, beside / "bundle")
        if config.python:
            download_wheels(beside / "wheels", config.python)
        metadata = {"title": config.title, "id": config.id, "licenses": [{"name": "other"}]}
        (beside / METADATA).write_text(json.dumps(metadata, indent=1) + "\n")
    for path in sorted(config.out.iterdir()):
        print(path)


def copy_code(folder: Path) -> None:
    """Copies everything that inference imports, without byte code and temporary files."""
    for name in CODE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.part"))
        else:
            shutil.copy(ROOT / name, folder / name)


def download_wheels(folder: Path, python: str) -> None:
    """Downloads the decoders of requirements.txt for that Python on Linux, by pip; ValueError if that fails."""
    required = [line.strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    wanted = [line for line in required if re.split("[=<>]", line)[0] in DECODERS]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--no-deps",
               "--python-version", python, *platforms, "--dest", str(folder), *wanted]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(
            f"pip could not download {', '.join(wanted)} for Python {python}: {last}; "
            "this needs internet: without --python the dataset is made without wheels"
        )


if __name__ == "__main__":
    run_script(main, DatasetConfig, __doc__)
