"""Optimizer steps: gradients of a step's samples, seen in parts, then weights, schedule and average."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import World
from aneurysm.training.layout import batch_on
from aneurysm.training.precision import choose_precision
from aneurysm.training.run import Run

Batch = dict[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]  # the mean loss of a batch, forward pass included


class Steps:
    """Takes the steps of a run; `forward` is its model, as it is called."""

    def __init__(self, run: Run, forward: nn.Module, loss: Loss, config: TrainingConfig, world: World):
        self.run, self.forward, self.loss, self.config, self.world = run, forward, loss, config, world
        self.precision = choose_precision(world.device, config.precision)

    def __call__(self, parts: Sequence[Batch]) -> None:
        """One optimizer step over the samples of all parts."""
        losses = self._gradients(parts)
        self._clip()
        self._update()
        self.run.loss_sum = self.run.loss_sum + losses.mean()
        self.run.n_counted += 1

    def _gradients(self, parts: Sequence[Batch]) -> Tensor:
        """(parts,) the mean loss of each; the gradients of their mean are then there."""
        losses = []
        for part in parts:
            batch = batch_on(self.world.device, part, self.config.channels_last)
            with self.precision.autocast():
                value = self.loss(self.forward, batch)
            self.run.scaler.scale(value / len(parts)).backward()
            losses.append(value.detach().float())
        return torch.stack(losses)

    def _clip(self) -> None:
        self.run.scaler.unscale_(self.run.optimizer)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.run.model.parameters(), self.config.clip_norm)

    def _update(self) -> None:
        run = self.run
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad(set_to_none=True)
        run.step += 1
        run.scheduler.step_update(run.step)
        if run.ema is not None:
            run.ema.update_parameters(run.model)
