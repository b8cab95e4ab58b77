"""CPU time of stage 1's augmentation per window, as a whole and for each change alone, on one thread.

    python benchmarks/augment.py

Reads and writes nothing. Prints milliseconds of CPU time per window: `all` is the mean over samples with the default
probabilities, `none` the median without any change. The other columns are medians with one change always applied, and
include `none`. The sample has two localizers and a vessel mask.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from aneurysm.config import run_script
from aneurysm.stage1.config import AugmentConfig
from aneurysm.stage1.sample import Sample
from aneurysm.stage1.transforms import augment, make_pipeline

CHANCES = [field.name for field in fields(AugmentConfig) if field.name.endswith("_p")]
NOTHING = AugmentConfig(**dict.fromkeys(CHANCES, 0.0))


@dataclass(frozen=True)
class AugmentBenchmarkConfig:
    sizes: tuple[int, ...] = (256, 448)
    """rows and columns of the windows"""
    n_samples: int = 300
    """windows augmented for each figure"""


def main(config: AugmentBenchmarkConfig) -> None:
    cv2.setNumThreads(1)
    columns = {"all": AugmentConfig(), "none": NOTHING}
    columns |= {chance.removesuffix("_p"): replace(NOTHING, **{chance: 1.0}) for chance in CHANCES}
    print("size" + "".join(f"{name:>10}" for name in columns))
    for size in config.sizes:
        times = {name: sample_ms(settings, size, config.n_samples) for name, settings in columns.items()}
        figures = [(np.mean if name == "all" else np.median)(ms) for name, ms in times.items()]
        print(f"{size:4}" + "".join(f"{figure:10.2f}" for figure in figures))


def sample_ms(settings: AugmentConfig, size: int, n_samples: int) -> np.ndarray:
    """(n_samples,) milliseconds of CPU time of each call."""
    rng, pipeline = np.random.default_rng(0), make_pipeline(settings)
    image, vessels = rng.random((size, size, 3), np.float32), rng.integers(0, 14, (size, size), np.uint8)
    points = rng.uniform(0, size - 1, (2, 2)).astype(np.float32)
    sample = Sample(image, points, np.array([0, 12]), vessels)
    marks = []
    for seed in range(n_samples + 1):
        marks.append(time.process_time())
        augment(sample, pipeline, seed)
    return 1000 * np.diff(marks)


if __name__ == "__main__":
    run_script(main, AugmentBenchmarkConfig, __doc__)
