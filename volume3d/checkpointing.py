"""Activation checkpointing: keeps the inputs of a part of the network and recomputes the rest for gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Part = Callable[..., Tensor]


def no_checkpoint(part: Part, modules: nn.Module, *inputs: Tensor) -> Tensor:
    """part(*inputs), with all activations kept."""
    return part(*inputs)


def checkpointed(part: Part, modules: nn.Module, *inputs: Tensor) -> Tensor:
    """part(*inputs) with the same outputs, gradients and batch norm statistics in less memory; may be nested.

    `modules` contains all modules that the part uses; none of them may draw random numbers.
    """
    if not (modules.training and torch.is_grad_enabled()):
        return part(*inputs)
    contexts = partial(_contexts, modules)
    return checkpoint(part, *inputs, use_reentrant=False, context_fn=contexts, preserve_rng_state=False)


def _contexts(modules: nn.Module) -> tuple:
    """Contexts for the first forward pass and for the recomputation."""
    return nullcontext(), _statistics_stay(modules)


@contextmanager
def _statistics_stay(modules: nn.Module) -> Iterator[None]:
    """Restores the running statistics of batch norms, which the recomputation updates a second time."""
    kept = [(buffer, buffer.clone()) for buffer in modules.buffers()]
    try:
        yield
    finally:  # the recomputation stops as soon as it has what is needed
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
