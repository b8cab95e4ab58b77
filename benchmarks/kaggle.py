"""Seconds per series by the submission, one call after another, and an estimate for Kaggle's two T4.

    PYTHONPATH=. python benchmarks/kaggle.py --bundle bundle --n_series 10
    PYTHONPATH=. python benchmarks/kaggle.py --encoder convnext_base --pairs 4 --image_size 448 --n_series 10

Makes synthetic RLE series of 512 x 512 pixels in a temporary folder, removed at the end. Of each ten, as in the
competition, four are CTA of 331 slices, three MRA of 164, two T2 of 29 and one T1post of 165. Without a bundle the
models have random weights, which take the same time. The first series is predicted once before, untimed.

Only the encoders' floating-point operations are counted. The fraction of its peak rate that a T4 reaches is not known
here. By default it is the fraction of its own matrix rate that the GPU of this run reaches.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydicom.uid import RLELossless

from aneurysm.config import run_script
from aneurysm.inference.clock import Clock
from aneurysm.inference.kaggle_settings import KaggleSettings
from aneurysm.inference.predict import Predictor
from aneurysm.inference.sampled import read_sampled
from aneurysm.inference.submission import LOG, Submission
from aneurysm.training.distributed import all_devices
from benchmarks import end_to_end
from benchmarks.preprocess import write_series
from benchmarks.rates import flops_of, matrix_rate

KINDS = {"CTA": (331, "CT", 0.6), "MRA": (164, "MR", 0.6), "T2": (29, "MR", 5.0), "T1post": (165, "MR", 1.0)}
OF_TEN = ("CTA", "MRA", "T2", "CTA", "T1post", "MRA", "CTA", "T2", "MRA", "CTA")
T4_FLOPS, N_T4 = 65e12, 2  # float16, dense, by NVIDIA's data sheet; Kaggle's GPU T4 x2
GOAL_S = 17.0  # 12 hours for 2,500 series


@dataclass(frozen=True)
class BenchmarkConfig:
    bundle: Path | None = None
    """the models, from eval_end_to_end.py --export; without one, random weights"""
    encoder: str = "tf_efficientnet_lite0"
    """of the random weights: a model of timm, by name"""
    image_size: int = 288
    """of the random weights: rows and columns of the encoder's input"""
    slice_spacing_mm: float = 1.5
    """of the random weights: distance of the windows"""
    pairs: int = 1
    """of the random weights: models that are averaged"""
    n_series: int = 10
    """series that are timed"""
    batch_size: int = 32
    """windows that are encoded at a time"""
    threads: int = torch.get_num_threads()
    """threads that decode a series"""
    device: str = "auto"
    """cpu, cuda (all GPUs), or auto"""
    utilisation: float = 0.0
    """share of its peak rate that a T4 is taken to reach; 0: what is measured here, on a GPU"""


def main(config: BenchmarkConfig) -> None:
    settings = {"batch_size": config.batch_size, "threads": config.threads}
    if config.bundle is not None:
        predictor = Predictor.of_bundle(config.bundle, all_devices(config.device), **settings)
    else:
        predictor = Predictor(random_pairs(config), all_devices(config.device), **settings)
    predictor.warm_up()
    with tempfile.TemporaryDirectory() as name:
        root, kinds = Path(name), [OF_TEN[i % len(OF_TEN)] for i in range(config.n_series)]
        for kind in set(kinds):
            n_slices, modality, gap_mm = KINDS[kind]
            write_series(root / kind, n_slices, RLELossless, modality, gap_mm)
        submission = Submission(KaggleSettings(out=root, shared=None), predictor, Clock(1e9, 1))
        for kind in (kinds[0], *kinds):
            submission.predict(str(root / kind))
        lines = [json.loads(line) for line in (root / LOG).read_text().splitlines()][1:]
        windows = {kind: len(read_sampled(root / kind, predictor.request).index) for kind in set(kinds)}
    if any(line["failure"] or line["left_out"] for line in lines):
        raise ValueError(f"expected whole answers, found {lines}")
    print(times_text(lines))
    flops = flops_a_window(predictor)
    flops_series = [flops * windows[kind] for kind in kinds]
    print(f"{flops / 1e9:.2f} GFLOP a window, all models and views; {np.mean(flops_series) / 1e12:.3f} TFLOP a series")
    print(t4_text(config, predictor, sum(flops_series), lines))


def random_pairs(config: BenchmarkConfig) -> list:
    made = end_to_end.BenchmarkConfig(
        encoder=config.encoder, image_size=config.image_size, slice_spacing_mm=config.slice_spacing_mm
    )
    return [end_to_end.random_pair(made)] * config.pairs


def times_text(lines: list[dict]) -> str:
    seconds = {kind: [line["seconds"] for line in lines if line["uid"] == kind] for kind in KINDS}
    rows = [f"  {kind:<7} {np.mean(own):7.2f} s, {len(own)} series" for kind, own in seconds.items() if own]
    steps = ", ".join(f"{name} {np.mean([line['steps'][name] for line in lines]):.2f}" for name in lines[0]["steps"])
    every = [line["seconds"] for line in lines]
    total = f"{np.mean(every):.2f} s a series ({steps}), 95th percentile {np.percentile(every, 95):.2f} s"
    return "\n".join([*rows, total])


def flops_a_window(predictor: Predictor) -> float:
    """Operations of stage 1 per window, for all models in all their views; a multiply-add counts as two."""
    total = 0.0
    for model in predictor.models:
        encoder = model.encoders[0][model.views[0]]
        shown = model.config1.input
        image = torch.zeros(1, shown.n_slices, shown.image_size, shown.image_size, device=encoder.device)
        with torch.inference_mode():
            total += flops_of(partial(encoder.model, image)) * len(model.views)
    return total


def t4_text(config: BenchmarkConfig, predictor: Predictor, flops: float, lines: list[dict]) -> str:
    """The estimate for the T4s; `flops` are those of all series together."""
    device, share = predictor.devices[0], config.utilisation
    if not share and device.type != "cuda":
        return "what a T4 would take cannot be told from a CPU: give --utilisation"
    if not share:
        encode_s = sum(line["steps"]["encode"] for line in lines)
        share = flops / encode_s / len(predictor.devices) / matrix_rate(device, torch.float16)
        print(f"the encoders reach {share:.0%} of this GPU's rate at matrices")
    seconds = flops / len(lines) / (T4_FLOPS * share * N_T4)
    goal = f"{seconds / GOAL_S:.0%} of the {GOAL_S:.0f} s that there are"
    return f"at {share:.0%} of their peak {N_T4} T4 encode a series in {seconds:.2f} s: {goal}"


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
