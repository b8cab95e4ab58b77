"""Activation checkpointing: of a part of the network its inputs are kept, and what happens inside is computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Part = Callable[..., Tensor]


def no_checkpoint(part: Part, modules: nn.Module, *inputs: Tensor) -> Tensor:
    """part(*inputs), everything in it kept."""
    return part(*inputs)


def checkpointed(part: Part, modules: nn.Module, *inputs: Tensor) -> Tensor:
    """part(*inputs) with the same outputs, gradients and batch norm statistics, and less memory. May be nested.

    `modules` holds all modules that the part uses; none of them may draw random numbers.
    """
    if not (modules.training and torch.is_grad_enabled()):
        return part(*inputs)
    contexts = partial(_contexts, modules)
    return checkpoint(part, *inputs, use_reentrant=False, context_fn=contexts, preserve_rng_state=False)


def _contexts(modules: nn.Module) -> tuple:
    """For the first pass, and for the second."""
    return nullcontext(), _statistics_stay(modules)


@contextmanager
def _statistics_stay(modules: nn.Module) -> Iterator[None]:
    """The second pass updates the running statistics of batch norms again: they are put back."""
    kept = [(buffer, buffer.clone()) for buffer in modules.buffers()]
    try:
        yield
    finally:  # the pass is broken off as soon as nothing more is needed
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
