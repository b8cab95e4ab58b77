"""One function over many items in worker processes, a few items ahead of the caller, in the items' order.

Unlike parallel.py it holds no more than a few results, however slowly the caller takes them, and needs no joblib.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, died: Callable[[Item], Result]
) -> Iterator[Result]:
    """The result of every item, in order; without workers this process computes them, none ahead.

    `died(item)` answers for an item whose worker was killed twice (out of memory, a crash in a decoder).
    """
    if workers < 1:
        yield from map(function, items)
        return
    left = deque(items)
    while left:
        try:
            for result in _run_pool(function, list(left), workers):
                left.popleft()
                yield result
        except BrokenProcessPool:
            # One of the items in flight killed a worker: only these run again, each in a pool of its own.
            for _ in range(min(len(left), workers + 1)):
                yield _run_alone(function, left.popleft(), died)


def _run_pool(function: Callable, items: Sequence[Item], workers: int) -> Iterator[Result]:
    pool = _pool(min(workers, len(items)))
    try:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _run_alone(function: Callable, item: Item, died: Callable[[Item], Result]) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return died(item)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Of processes that share nothing with this one: a fork would copy the threads' locks and the GPU's state."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Ends this worker when its parent is gone, however it ended: left alone it would wait for items for ever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
