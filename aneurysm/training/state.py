"""The state of a training run: model, EMA, optimizer, learning rate schedule and counters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from aneurysm.training.precision import channels_last_model, training_precision

PLATEAU = "plateau"


@dataclass
class Run:
    """The state of a run, saved in resume.pth.

    epoch      completed epochs
    step       optimizer steps of all epochs, skipped ones included
    loss_sum   () sum of the losses of this epoch's `n_counted` steps that were not skipped, in this process
    n_skipped  skipped steps of this epoch
    best       highest score so far, from epoch `best_epoch` (from 1 on; 0 without one)
    """

    model: nn.Module
    ema: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scheduler: Any
    scaler: torch.amp.GradScaler
    epoch: int = 0
    step: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(()))
    n_counted: int = 0
    n_skipped: int = 0
    best: float = -math.inf
    best_epoch: int = 0

    @property
    def evaluated_model(self) -> nn.Module:
        """The EMA model, without EMA the model itself: evaluated and saved."""
        return self.model if self.ema is None else self.ema.module

    def end_epoch(self, scores: dict[str, float]) -> None:
        """Counts the epoch and updates the best score; `scores` is {} without evaluation, NaN is never the best."""
        self.epoch += 1
        if scores.get("score", -math.inf) > self.best:
            self.best, self.best_epoch = scores["score"], self.epoch
        self.loss_sum, self.n_counted, self.n_skipped = torch.zeros_like(self.loss_sum), 0, 0

    def mean_loss(self, world: DistContext) -> float:
        """Mean loss of this epoch's steps over all processes; NaN if all were skipped."""
        return float(world.gather(self.loss_sum.cpu().numpy()[None]).mean()) / (self.n_counted or math.nan)

    def state(self, world: DistContext) -> dict[str, Any]:
        """The state for load(); every process must call it at the same step. Model, optimizer and scaler are those of
        this process, loss and random states are gathered from all."""
        own = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scaler")}
        own["ema"] = self.ema.state_dict() if self.ema is not None else {}
        own["scheduler"] = self.scheduler.state_dict() if isinstance(self.scheduler, Plateau) else {}
        own["loss_sum"] = torch.tensor(world.gather(self.loss_sum.cpu().numpy()[None]).mean())
        return own | {name: getattr(self, name) for name in _COUNTS} | {"random": _random_state(world)}

    def load(self, state: dict[str, Any], world: DistContext) -> None:
        """Restores the state returned by state(); this run's precision may differ from the saved one."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty unless the saved run used fp16: then a new scaler starts
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        for name in _COUNTS:
            setattr(self, name, state[name])
        self.loss_sum = state["loss_sum"].to(world.device)
        if isinstance(self.scheduler, Plateau):
            self.scheduler.load_state_dict(state["scheduler"])
        self.scheduler.step_update(self.step)
        _set_random_state(state["random"], world)


_COUNTS = ("epoch", "step", "n_counted", "n_skipped", "best", "best_epoch")


def start_run(model: nn.Module, config: TrainingConfig, steps_per_epoch: int, world: DistContext) -> Run:
    """A new run at step 0; moves the model to the device."""
    model = model.to(world.device)
    if config.channels_last:
        model = channels_last_model(model)
    optimizer = create_optimizer_v2(model, config.optimizer, config.lr, config.weight_decay)
    scheduler = make_schedule(optimizer, config, steps_per_epoch)
    update = ema_update(config.ema_decay)
    ema = AveragedModel(model, multi_avg_fn=update, use_buffers=True) if config.ema_decay else None
    scaler = training_precision(world.device, config.precision, model).scaler()
    return Run(model, ema, optimizer, scheduler, scaler, loss_sum=torch.zeros((), device=world.device))


def ema_update(decay: float) -> Callable:
    """The EMA update with decay min(`decay`, (1 + n) / (10 + n)) at step n: short runs forget their initial weights."""

    def update(averages: list, currents: list, n_averaged: Tensor | int) -> None:
        n_steps = float(n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n_steps) / (10 + n_steps)))(averages, currents, n_averaged)

    return update


def _random_state(world: DistContext) -> dict[str, Tensor]:
    """(processes, bytes) uint8 state of each random generator, cpu and, on a GPU, cuda."""
    states = {"cpu": torch.get_rng_state()}
    if world.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(world.device)
    return {name: torch.from_numpy(world.gather(own.numpy()[None])) for name, own in states.items()}


def _set_random_state(states: dict[str, Tensor], world: DistContext) -> None:
    """Restores the random state of this process; a rank that the saved run did not have keeps its seed."""
    if world.rank >= len(states["cpu"]):
        return
    own = {name: rows[world.rank].cpu().clone() for name, rows in states.items()}  # torch needs aligned memory
    torch.set_rng_state(own["cpu"])
    if world.device.type == "cuda" and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], world.device)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, steps_per_epoch: int) -> Any:
    """The learning rate schedule; call step_update(step) after each optimizer step and step(epoch, watched) per epoch.

    timm's schedules depend on the step only. timm's own plateau loses its state when a run is resumed.
    """
    if config.schedule == PLATEAU:
        return Plateau(optimizer, config, steps_per_epoch)
    schedule, _ = create_scheduler_v2(
        optimizer, config.schedule, max(1, config.epochs - config.warmup_epochs),  # ends with the last step
        warmup_epochs=config.warmup_epochs, warmup_lr=config.lr / 100, warmup_prefix=True,
        step_on_epochs=False, updates_per_epoch=steps_per_epoch,
    )  # fmt: skip
    return schedule


def watched(config: TrainingConfig, loss: float, scores: dict[str, float]) -> float:
    """The metric for the plateau, lower is better: loss or negative score (NaN if the epoch was not evaluated)."""
    return loss if config.plateau_on == "loss" else -scores.get("score", math.nan)


class Plateau:
    """Linear warm-up from 1 % of the learning rate to all of it, then ReduceLROnPlateau."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainingConfig, steps_per_epoch: int):
        self.optimizer, self.highest = optimizer, config.lr
        self.warmup_epochs, self.warmup_steps = config.warmup_epochs, config.warmup_epochs * steps_per_epoch
        self.reduce = ReduceLROnPlateau(
            optimizer, factor=config.plateau_factor, patience=config.plateau_patience, threshold_mode="abs"
        )
        self.step_update(0)

    def step_update(self, step: int) -> None:
        """Sets the warm-up learning rate after `step` optimizer steps (0: before the first)."""
        if step <= self.warmup_steps and self.warmup_steps:
            for group in self.optimizer.param_groups:  # read each time: load_state_dict replaces them
                group["lr"] = self.highest * (0.01 + 0.99 * step / self.warmup_steps)

    def step(self, epoch: int, value: float) -> None:
        """Updates the plateau after an epoch beyond the warm-up; `value` is minimised, non-finite ones are ignored."""
        if epoch > self.warmup_epochs and math.isfinite(value):
            self.reduce.step(value)

    def state_dict(self) -> dict[str, Any]:
        return self.reduce.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reduce.load_state_dict(state)
