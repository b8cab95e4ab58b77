"""What is done where a device's memory does not suffice: the same with half as much at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def retry_smaller_batch(do: Callable[[int], Result], size: int) -> tuple[Result, int]:
    """What `do` returns about `size` things at once, or half of that, or half again, and the size that it fitted with.

    Raises torch.OutOfMemoryError where one thing does not fit.
    """
    while True:
        try:
            return do(size), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        torch.cuda.empty_cache()  # out of the handler, whose error holds what the failed attempt has made
        size //= 2
