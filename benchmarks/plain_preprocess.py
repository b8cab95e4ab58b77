"""The simplest script for step 1, which preprocess.py compares preprocess_data.py with.

    python benchmarks/plain_preprocess.py --data_dir DIR --workers 2 [--slices true]

Decodes with pydicom, sorts by position, scales, resizes, and writes with numpy. It does not look for the head or check
headers, assumes one volume per series and one intensity window, cannot resume, and stops at the first broken file.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pydicom

SIZE = 512
WINDOW_HU = (0, 600)


@dataclass(frozen=True)
class PlainConfig:
    data_dir: Path
    """folder that holds series/"""
    workers: int = os.cpu_count() or 1
    """worker processes"""
    slices: bool = False
    """also write one file per slice"""


def preprocess(folder: Path, out: Path, slices: bool) -> None:
    cv2.setNumThreads(1)
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    files.sort(key=lambda file: float(file.ImagePositionPatient[2]))
    volume = np.empty((len(files), SIZE, SIZE), np.float16)
    for k, file in enumerate(files):
        low, high = WINDOW_HU
        image = file.pixel_array.astype(np.float32) * float(file.RescaleSlope) + float(file.RescaleIntercept)
        image = np.clip((image - low) / (high - low), 0, 1)
        volume[k] = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    np.save(out / "npy_sequence" / f"{folder.name}.npy", volume)
    if slices:
        single = out / "npy_slice" / folder.name
        single.mkdir()
        for k, image in enumerate(volume):
            np.save(single / f"{k:04d}.npy", image)


def main(config: PlainConfig) -> None:
    for name in ("npy_sequence", "npy_slice"):
        (config.data_dir / name).mkdir(exist_ok=True)
    folders = sorted((config.data_dir / "series").iterdir())
    with ProcessPoolExecutor(config.workers) as pool:
        for job in [pool.submit(preprocess, folder, config.data_dir, config.slices) for folder in folders]:
            job.result()


if __name__ == "__main__":
    from aneurysm.config import parse_config

    main(parse_config(PlainConfig, __doc__))
