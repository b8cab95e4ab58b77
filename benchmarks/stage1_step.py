"""CPU time of a stage 1 training step with maps at stride 4, the encoder's part of it, and the effect of settings.

    PYTHONPATH=. python benchmarks/stage1_step.py --rounds 7

Draws windows from phantoms, as pretrain.py does, and starts from pretrained weights. All variants take their steps in
turn. Prints the medians of CPU time per window, and of the ratio to the first variant in the same round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from aneurysm.config import run_script
from aneurysm.package import pretrained_folder
from aneurysm.phantom.config import PhantomWindowsConfig
from aneurysm.stage1.endless import EndlessWindows
from aneurysm.stage1.losses import Stage1Loss
from aneurysm.stage1.predict import load_stage1
from aneurysm.training.config import PrecisionKind
from aneurysm.training.precision import channels_last, channels_last_model, training_precision
from benchmarks.rates import CPU

SEED = 1_900_000


@dataclass(frozen=True)
class BenchmarkConfig:
    weights: Path = pretrained_folder() / "tf_efficientnet_lite0.safetensors"
    """pretrained weights"""
    batch_size: int = 6
    """windows of a step"""
    rounds: int = 7
    """rounds, after two to warm up"""
    threads: int = 1
    """torch threads"""


@dataclass(frozen=True)
class Variant:
    name: str
    precision: PrecisionKind = "auto"
    last: bool = True
    flush: bool = True
    compiled: bool = False


VARIANTS = (
    Variant("as pretrain.py"),
    Variant("float32", precision="fp32"),
    Variant("bfloat16", precision="bf16"),
    Variant("float32, denormals computed", precision="fp32", flush=False),
    Variant("without channels_last", last=False),
    Variant("torch.compile", compiled=True),
)


class Stepper:
    """One variant's model and optimizer, and the CPU seconds of its steps, encoder passes and predictions."""

    def __init__(self, variant: Variant, weights: Path, batch: dict[str, Tensor]):
        self.variant = variant
        self.model, self.config = load_stage1(weights)
        self.precision = training_precision(CPU, variant.precision, self.model)
        if variant.last:
            channels_last_model(self.model)
            batch = {name: channels_last(tensor) for name, tensor in batch.items()}
        self.batch, self.loss = batch, Stage1Loss(self.config.loss, self.config.heads)
        self.forward: nn.Module = torch.compile(self.model) if variant.compiled else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-5)
        self.seconds: list[tuple[float, float, float]] = []

    def round(self) -> None:
        torch.set_flush_denormal(self.variant.flush)
        self.model.train()
        step = cpu_seconds(self.step)
        encoder = cpu_seconds(self.encode)
        self.model.eval()
        self.seconds.append((step, encoder, cpu_seconds(self.predict)))
        torch.set_flush_denormal(False)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            loss = self.loss(self.forward, self.batch)
        loss.backward()
        self.optimizer.step()

    def encode(self) -> None:
        """Forward and backward pass of the encoder alone."""
        with self.precision.autocast():
            maps = self.model.encoder.forward_intermediates(self.batch["image"], intermediates_only=True)
        sum(map.float().mean() for map in maps).backward()

    @torch.inference_mode()
    def predict(self) -> None:
        self.forward(self.batch["image"])


def main(config: BenchmarkConfig) -> None:
    torch.set_num_threads(config.threads)
    stage1, phantoms = load_stage1(config.weights)[1], PhantomWindowsConfig(varied_share=0.75)
    windows = EndlessWindows(stage1, phantoms, SEED, config.batch_size)
    batch = default_collate([windows[(0, number)] for number in range(config.batch_size)])
    steppers = [Stepper(variant, config.weights, batch) for variant in VARIANTS]
    for _ in range(2 + config.rounds):
        for stepper in steppers:
            stepper.round()
    first, *_ = seconds = [np.array(stepper.seconds[2:]) for stepper in steppers]
    print(f"{stage1.input.image_size} pixels, {config.batch_size} windows a step, {config.threads} threads; auto is "
          f"{steppers[0].precision.dtype}\n")  # fmt: skip
    print("| | step, ms a window | ratio | encoder's part | prediction, ms a window | ratio |")
    print("|---|---|---|---|---|---|")
    for stepper, own in zip(steppers, seconds, strict=True):
        step, encoder, prediction = np.median(own, axis=0)
        step_ms, prediction_ms = (1e3 * seconds / config.batch_size for seconds in (step, prediction))
        print(f"| {stepper.variant.name} | {step_ms:.0f} | {ratios(own, first, 0)} | {encoder / step:.0%} | "
              f"{prediction_ms:.0f} | {ratios(own, first, 2)} |")  # fmt: skip


def ratios(own: np.ndarray, first: np.ndarray, column: int) -> str:
    ratio = own[:, column] / first[:, column]
    return f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
