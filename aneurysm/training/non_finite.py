"""Non-finite losses and gradients, and the series that they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aneurysm.training.batches import Key
from aneurysm.training.distributed import DistContext

LOOK_EVERY = 16  # optimizer steps: to look at a number, the main process waits until the GPU has computed it


@dataclass(frozen=True)
class StepResult:
    """A step of this process: its losses (parts,), and the norm () of its gradients, on the device."""

    where: str
    keys: Sequence[Sequence[Key]]  # of each part's samples
    losses: Tensor
    norm: Tensor

    @property
    def numbers(self) -> Tensor:
        """(parts + 1,)"""
        return torch.cat([self.losses, self.norm[None].float()])


class NonFiniteGuard:
    """Looks at the steps of all processes, each of which has to call it at the same steps.

    `names` tells the series of samples.
    """

    def __init__(self, names: Callable[[Sequence[Key]], str], world: DistContext):
        self.names, self.world = names, world
        self._unseen: list[StepResult] = []

    def note(self, taken: StepResult) -> None:
        """To be looked at soon; look() raises."""
        self._unseen.append(taken)
        if len(self._unseen) == LOOK_EVERY:
            self.look()

    def look(self) -> None:
        """Raises ValueError naming step and series where a loss or a gradient of a step noted was not finite."""
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
        """What is wrong with one step, here or in another process; nothing mostly. A GPU is waited for."""
        numbers = taken.numbers.cpu()
        bad = self.world.highest(int(not numbers.isfinite().all()))
        return self._of_all(self._text(taken, numbers)) if bad else ""

    def _text(self, taken: StepResult, numbers: Tensor) -> str:
        bad = [i for i, loss in enumerate(numbers[:-1]) if not loss.isfinite()]
        if bad:
            keys = [key for i in bad for key in taken.keys[i]]
            return f"{taken.where}: the loss is {numbers[bad[0]].item()}, of {self.names(keys)}"
        if not numbers[-1].isfinite():  # of all samples together: with a loss that is none, its own series are told
            keys = [key for part in taken.keys for key in part]
            return f"{taken.where}: the gradients' norm is {numbers[-1].item()}, of {self.names(keys)}"
        return ""

    def _of_all(self, text: str) -> str:
        """What the processes say; of those that have a loss to complain of alone, where there is one."""
        texts = [text for text in self.world.gather(np.array([text], dtype=object)) if text]
        return "; ".join([text for text in texts if "the loss is" in text] or texts)
