"""How the learning rate goes: timm's schedules by the step, or down whenever training no longer gets anywhere."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.scheduler import create_scheduler_v2
from torch.optim.lr_scheduler import ReduceLROnPlateau

from aneurysm.training.config import TrainingConfig

PLATEAU = "plateau"


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, steps_per_epoch: int) -> Any:
    """The schedule of that name: told of every step by step_update(step), and of every epoch by step(epoch, watched).

    timm's schedules follow the steps alone. timm has a plateau, too, but forgets it when a run is resumed.
    """
    if config.schedule == PLATEAU:
        return Plateau(optimizer, config, steps_per_epoch)
    schedule, _ = create_scheduler_v2(
        optimizer, config.schedule, max(1, config.epochs - config.warmup_epochs),  # so that the last step is its end
        warmup_epochs=config.warmup_epochs, warmup_lr=config.lr / 100, warmup_prefix=True,
        step_on_epochs=False, updates_per_epoch=steps_per_epoch,
    )  # fmt: skip
    return schedule


def watched(config: TrainingConfig, loss: float, scores: dict[str, float]) -> float:
    """What a plateau looks at after an epoch, lower is better; NaN where the epoch was not evaluated."""
    return loss if config.plateau_on == "loss" else -scores.get("score", math.nan)


class Plateau:
    """A rise to the highest learning rate in the warm-up; then it falls each time that nothing gets better."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainingConfig, steps_per_epoch: int):
        self.optimizer, self.highest = optimizer, config.lr
        self.warmup_epochs, self.warmup_steps = config.warmup_epochs, config.warmup_epochs * steps_per_epoch
        self.reduce = ReduceLROnPlateau(
            optimizer, factor=config.plateau_factor, patience=config.plateau_patience, threshold_mode="abs"
        )
        self.step_update(0)

    def step_update(self, step: int) -> None:
        """After the optimizer's step of this number, or before the first (0)."""
        if step <= self.warmup_steps and self.warmup_steps:
            for group in self.optimizer.param_groups:  # those of now: loading a state replaces them
                group["lr"] = self.highest * (0.01 + 0.99 * step / self.warmup_steps)

    def step(self, epoch: int, value: float) -> None:
        """After an epoch; `value` is what should fall, NaN where nobody knows it."""
        if epoch > self.warmup_epochs and math.isfinite(value):
            self.reduce.step(value)

    def state_dict(self) -> dict[str, Any]:
        return self.reduce.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reduce.load_state_dict(state)
