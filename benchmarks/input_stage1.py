"""Training windows per second from one worker process of stage 1, and the fraction spent on reading the cache.

    python benchmarks/input_stage1.py --data_dir data --image_size 448

Reads train_stage1_<folds>_folds.csv and npy_sequence/, once to warm the disk's cache, then in rounds. Measures CPU time
on one thread, because the machine may be shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import torch

from aneurysm.cache.cache import open_cache
from aneurysm.cache.windows import neighbours
from aneurysm.config import run_script
from aneurysm.folds.tables import read_spots
from aneurysm.stage1.config import InputConfig, Stage1Config
from aneurysm.stage1.dataset import EvalWindows, TrainingWindows


@dataclass(frozen=True)
class BenchmarkConfig:
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    image_size: int = 448
    """rows and columns of the encoder's input"""
    n_windows: int = 200
    """windows of a round"""
    rounds: int = 3
    """rounds"""


def main(config: BenchmarkConfig) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    cache, spots = open_cache(config.data_dir), read_spots(config.data_dir, config.folds)
    settings = replace(Stage1Config(), input=InputConfig(image_size=config.image_size))
    training = TrainingWindows(cache, spots, {}, settings)
    plain = EvalWindows(cache, spots, settings.input)
    step = max(1, len(training) // config.n_windows)

    def read(number: int) -> None:
        uid, index, _ = plain.places[number * step % len(plain)]
        cache.window(uid, neighbours(cache.position_mm(uid), index, settings.input.neighbour_mm))

    parts: dict[str, Callable[[int], object]] = {
        "reading the cache": read,
        "without augmentation": lambda number: plain[number * step % len(plain)],
        "everything": lambda number: training[(0, number * step % len(training))],
    }
    for part in parts.values():
        _cpu_ms(part, config.n_windows)
    print(f"{'CPU ms/window':24}" + "".join(f"{name:>24}" for name in parts) + f"{'windows/s':>12}{'reading':>10}")
    for number in range(config.rounds):
        ms = [_cpu_ms(part, config.n_windows) for part in parts.values()]
        print(
            f"round {number + 1:<18}"
            + "".join(f"{t:24.2f}" for t in ms)
            + f"{1000 / ms[-1]:12.0f}{ms[0] / ms[-1]:10.1%}"
        )


def _cpu_ms(part: Callable[[int], object], n_windows: int) -> float:
    started = time.process_time()
    for number in range(n_windows):
        part(number)
    return 1000 * (time.process_time() - started) / n_windows


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
