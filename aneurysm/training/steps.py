"""Optimizer steps: gradients of a step's samples, seen in parts, then weights, schedule and average."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aneurysm.training.batches import EpochBatches, Key
from aneurysm.training.config import TrainingConfig
from aneurysm.training.memory_format import batch_on
from aneurysm.training.non_finite import NonFiniteGuard, StepResult
from aneurysm.training.precision import training_precision
from aneurysm.training.run import Run
from aneurysm.training.smaller_batch import retry_smaller_batch

Batch = dict[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]  # the mean loss of a batch, forward pass included
Names = Callable[[Sequence[Key]], str]


def pieces(part: Batch, at_once: int) -> Iterator[tuple[Batch, float]]:
    """The samples of a part, so many at once, and their share of it."""
    n = len(next(iter(part.values())))
    for first in range(0, n, at_once):
        piece = {name: tensor[first : first + at_once] for name, tensor in part.items()}
        yield piece, min(at_once, n - first) / n


class TrainStep:
    """Takes the steps of a run; `forward` is its model, as it is called, and `names` tells the series of samples."""

    def __init__(
        self, run: Run, forward: nn.Module, loss: Loss, config: TrainingConfig, batches: EpochBatches, names: Names
    ):
        self.run, self.forward, self.loss, self.config, self.batches = run, forward, loss, config, batches
        self.device, self.at_once = batches.world.device, batches.part
        self.precision = training_precision(self.device, config.precision)
        self.watch = NonFiniteGuard(names, batches.world)

    def __call__(self, keys: Sequence[Sequence[Key]], parts: Sequence[Batch]) -> None:
        """One optimizer step over the samples of all parts; `keys` are theirs.

        Raises ValueError naming the series where a loss or a gradient was not finite in this step or in one of the last
        few. With `skip_nan` such a step is left out in all processes, and the buffers of the model (the statistics of
        batch norms) are put back.
        """
        before = [buffer.clone() for buffer in self.run.model.buffers()] if self.config.skip_nan else []
        losses = self._gradients(parts)
        taken = StepResult(self._where(), keys, losses, self._clipped_norm())
        if not self.config.skip_nan:
            self.watch.note(taken)
        if self.config.skip_nan and (fault := self.watch.fault(taken)):
            self._leave_out(fault, before)
        else:
            self._update()
            self.run.loss_sum = self.run.loss_sum + losses.mean()
            self.run.n_counted += 1
        self.run.optimizer.zero_grad(set_to_none=True)
        self.run.step += 1
        self.run.scheduler.step_update(self.run.step)

    def _where(self) -> str:
        n_steps = self.batches.n_steps
        return f"epoch {self.run.epoch + 1}, step {self.run.step % n_steps + 1} of {n_steps}"

    def _gradients(self, parts: Sequence[Batch]) -> Tensor:
        """(parts,) the mean loss of each; the gradients of their mean are then there.

        Out of memory, the parts are halved, for this step, which is begun anew, and for all that follow, as if
        `accumulate` were twice as large. A batch norm in training then sees smaller parts, and its statistics have seen
        the attempt that failed. Of several processes the others are waiting for the gradients of this one: there, it is
        an error.
        """
        try:
            if self.batches.world.size > 1:
                return self._attempt(parts, self.at_once)
            losses, fitted = retry_smaller_batch(partial(self._attempt, parts), self.at_once)
        except torch.OutOfMemoryError as error:
            raise ValueError(f"{self._where()}: out of memory with {self._out_of_memory_text()}; {error}") from error
        if fitted < self.at_once:
            self.at_once = fitted
            tqdm.write(
                f"{self._where()}: out of memory; from now on {fitted} samples at once, "
                f"as with --training.accumulate {self.config.batch_size // fitted}"
            )
        return losses

    def _attempt(self, parts: Sequence[Batch], at_once: int) -> Tensor:
        self.run.optimizer.zero_grad(set_to_none=True)
        losses = [torch.zeros((), device=self.device) for _ in parts]
        todo = [(number, *piece) for number, part in enumerate(parts) for piece in pieces(part, at_once)]
        for number, piece, share in todo[:-1]:
            with self.batches.world.without_sync(self.forward):
                losses[number] += share * self._backward(piece, share / len(parts))
        number, piece, share = todo[-1]
        losses[number] += share * self._backward(piece, share / len(parts))
        return torch.stack(losses)

    def _backward(self, piece: Batch, share: float) -> Tensor:
        """() the mean loss of the samples; the gradients of `share` of it are added to those that there are."""
        with self.precision.autocast():
            value = self.loss(self.forward, batch_on(self.device, piece, self.config.channels_last))
        self.run.scaler.scale(value * share).backward()
        return value.detach().float()

    def _out_of_memory_text(self) -> str:
        if self.at_once > 1 and self.batches.world.size > 1:
            more = 2 * self.config.accumulate
            return f"{self.at_once} samples at once in each process; expected --training.accumulate {more} or more"
        return "one sample at once; expected a smaller input or network, or its checkpointing"

    def _clipped_norm(self) -> Tensor:
        """() of the gradients before they are clipped; 0 with a scaler, which finds its factor by infinite ones."""
        self.run.scaler.unscale_(self.run.optimizer)
        norm = nn.utils.clip_grad_norm_(self.run.model.parameters(), self.config.clip_norm or math.inf)
        return torch.zeros_like(norm) if self.run.scaler.is_enabled() else norm

    def _update(self) -> None:
        self.run.scaler.step(self.run.optimizer)
        self.run.scaler.update()
        if self.run.ema is not None:
            self.run.ema.update_parameters(self.run.model)

    def _leave_out(self, fault: str, buffers: Sequence[Tensor]) -> None:
        self.run.scaler.update()
        self.run.n_skipped += 1
        for buffer, before in zip(self.run.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        if self.batches.world.is_main:
            tqdm.write(f"left out: {fault}")
