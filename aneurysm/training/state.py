"""What changes while a model is trained, how it begins, and how the learning rate goes."""

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
    """All of it goes into the file that a killed run is resumed from.

    epoch      whole ones
    step       optimizer steps of all epochs, those left out included
    loss_sum   () of this epoch's steps that counted, `n_counted` of them, in this process
    n_skipped  this epoch's steps that were left out
    best       highest score so far, of the epoch of the number `best_epoch`
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
        """The model that is evaluated and saved."""
        return self.model if self.ema is None else self.ema.module

    def end_epoch(self, scores: dict[str, float]) -> None:
        """`scores` are empty where the epoch was not evaluated, and a NaN score is never the best."""
        self.epoch += 1
        if scores.get("score", -math.inf) > self.best:
            self.best, self.best_epoch = scores["score"], self.epoch
        self.loss_sum, self.n_counted, self.n_skipped = torch.zeros_like(self.loss_sum), 0, 0

    def mean_loss(self, world: DistContext) -> float:
        """Of this epoch's steps, over all processes; NaN where none counted."""
        return float(world.gather(self.loss_sum.cpu().numpy()[None]).mean()) / (self.n_counted or math.nan)

    def state(self, world: DistContext) -> dict[str, Any]:
        """As load wants it; every process has to ask for it at the same step, and gets the same but for its weights."""
        own = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scaler")}
        own["ema"] = self.ema.state_dict() if self.ema is not None else {}
        own["scheduler"] = self.scheduler.state_dict() if isinstance(self.scheduler, Plateau) else {}
        own["loss_sum"] = torch.tensor(world.gather(self.loss_sum.cpu().numpy()[None]).mean())
        return own | {name: getattr(self, name) for name in _COUNTS} | {"random": _random_state(world)}

    def load(self, state: dict[str, Any], world: DistContext) -> None:
        """Goes on from what `state` has returned, with this run's precision, which may be another one."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where the precision had no need of one: then this run's begins anew
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
    """A run of which nothing is done, on its device."""
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
    """The EMA update; its decay rises to `decay` with the steps, so that short runs do not keep their first weights."""

    def update(averages: list, currents: list, n_averaged: Tensor | int) -> None:
        n_steps = float(n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n_steps) / (10 + n_steps)))(averages, currents, n_averaged)

    return update


def _random_state(world: DistContext) -> dict[str, Tensor]:
    """(processes, bytes) of each generator: each process draws its own dropout."""
    states = {"cpu": torch.get_rng_state()}
    if world.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(world.device)
    return {name: torch.from_numpy(world.gather(own.numpy()[None])) for name, own in states.items()}


def _set_random_state(states: dict[str, Tensor], world: DistContext) -> None:
    """That of this process; one that was not there before goes on with its own seed."""
    if world.rank >= len(states["cpu"]):
        return
    own = {name: rows[world.rank].cpu().clone() for name, rows in states.items()}  # torch wants it aligned
    torch.set_rng_state(own["cpu"])
    if world.device.type == "cuda" and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], world.device)


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
