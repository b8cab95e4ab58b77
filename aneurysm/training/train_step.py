"""One optimizer step: gradients accumulated over micro-batches, then weights, EMA and learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from aneurysm.training.config import TrainingConfig
from aneurysm.training.data import EpochBatches, Key
from aneurysm.training.distributed import DistContext
from aneurysm.training.precision import batch_on, training_precision
from aneurysm.training.state import Run

Batch = dict[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]  # runs the forward pass; mean loss () of a batch
Names = Callable[[Sequence[Key]], str]
Result = TypeVar("Result")
LOOK_EVERY = 16  # optimizer steps between checks for non-finite values: each waits for the GPU


def pieces(part: Batch, at_once: int) -> Iterator[tuple[Batch, float]]:
    """Splits a micro-batch into pieces of up to `at_once` samples; yields each with its fraction of the samples."""
    n = len(next(iter(part.values())))
    for first in range(0, n, at_once):
        piece = {name: tensor[first : first + at_once] for name, tensor in part.items()}
        yield piece, min(at_once, n - first) / n


class TrainStep:
    """Runs the optimizer steps of a run; `forward` is its model, wrapped or compiled, `names` names samples."""

    def __init__(
        self, run: Run, forward: nn.Module, loss: Loss, config: TrainingConfig, batches: EpochBatches, names: Names
    ):
        self.run, self.forward, self.loss, self.config, self.batches = run, forward, loss, config, batches
        self.device, self.at_once = batches.world.device, batches.part
        self.precision = training_precision(self.device, config.precision, run.model)
        self.non_finite = NonFiniteGuard(names, batches.world)

    def __call__(self, keys: Sequence[Sequence[Key]], parts: Sequence[Batch]) -> None:
        """One optimizer step over the micro-batches `parts`; `keys` are the keys of their samples.

        Raises ValueError naming the series if a loss or gradient was non-finite in this or one of the previous
        LOOK_EVERY - 1 steps. With `skip_nan` all processes skip such a step instead and restore the model's buffers
        (batch norm statistics).
        """
        before = [buffer.clone() for buffer in self.run.model.buffers()] if self.config.skip_nan else []
        losses = self._gradients(parts)
        taken = StepResult(self._where(), keys, losses, self._clipped_norm())
        if not self.config.skip_nan:
            self.non_finite.add(taken)
        if self.config.skip_nan and (fault := self.non_finite.fault(taken)):
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
        """(parts,) mean loss of each micro-batch; computes the gradients of their mean.

        Out of memory: repeats the step with pieces of half the size, also used from then on, as if `accumulate` were
        doubled. Batch norms in training then see smaller batches, and have seen the failed attempt. Raises ValueError
        if one sample does not fit, or with several processes, which wait for each other's gradients.
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
        """() mean loss of the samples; adds the gradients of `share` x loss."""
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
        """() norm of the gradients before clipping; 0 for fp16, whose scaler handles non-finite gradients itself."""
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


def retry_smaller_batch(do: Callable[[int], Result], size: int) -> tuple[Result, int]:
    """(do(size), size), with `size` halved until it fits into memory; torch.OutOfMemoryError if 1 does not fit."""
    while True:
        try:
            return do(size), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        torch.cuda.empty_cache()  # outside the handler, whose exception keeps the tensors of the failed attempt alive
        size //= 2


@dataclass(frozen=True)
class StepResult:
    """Losses (parts,) and gradient norm () of one step in this process, on its device."""

    where: str
    keys: Sequence[Sequence[Key]]  # sample keys of each micro-batch
    losses: Tensor
    norm: Tensor

    @property
    def numbers(self) -> Tensor:
        """(parts + 1,) float32: losses, then the norm."""
        return torch.cat([self.losses, self.norm[None].float()])


class NonFiniteGuard:
    """Detects non-finite losses and gradients in all processes; all must call it at the same steps.

    `names` gives the series of samples for the message.
    """

    def __init__(self, names: Callable[[Sequence[Key]], str], world: DistContext):
        self.names, self.world = names, world
        self._unseen: list[StepResult] = []

    def add(self, taken: StepResult) -> None:
        """Records a step and calls check(), which may raise, every LOOK_EVERY steps."""
        self._unseen.append(taken)
        if len(self._unseen) == LOOK_EVERY:
            self.check()

    def check(self) -> None:
        """Raises ValueError naming step and series if a recorded step had a non-finite loss or gradient."""
        unseen, self._unseen = self._unseen, []
        if unseen:
            numbers = torch.stack([taken.numbers for taken in unseen]).cpu()
            messages = [self._text(taken, row) for taken, row in zip(unseen, numbers, strict=True)]
            first = self._of_all(next((text for text in messages if text), ""))
            if first:
                raise ValueError(
                    f"{first}. A lower lr or precision fp32 may help; --training.skip_nan leaves out such steps"
                )

    def fault(self, taken: StepResult) -> str:
        """A description of non-finite values in one step, in any process; "" if there are none. Waits for the GPU."""
        numbers = taken.numbers.cpu()
        bad = self.world.highest(int(not numbers.isfinite().all()))
        return self._of_all(self._text(taken, numbers)) if bad else ""

    def _text(self, taken: StepResult, numbers: Tensor) -> str:
        bad = [i for i, loss in enumerate(numbers[:-1]) if not loss.isfinite()]
        if bad:
            keys = [key for i in bad for key in taken.keys[i]]
            return f"{taken.where}: the loss is {numbers[bad[0]].item()}, of {self.names(keys)}"
        if not numbers[-1].isfinite():  # the norm is of all samples; a non-finite loss names its own samples above
            keys = [key for part in taken.keys for key in part]
            return f"{taken.where}: the gradients' norm is {numbers[-1].item()}, of {self.names(keys)}"
        return ""

    def _of_all(self, text: str) -> str:
        """The messages of all processes, joined; only those about a loss if there is any."""
        texts = [text for text in self.world.gather(np.array([text], dtype=object)) if text]
        return "; ".join([text for text in texts if "the loss is" in text] or texts)
