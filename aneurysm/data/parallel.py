"""One function over many items in worker processes, where a worker that dies costs one item and not the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    died: Callable[[Item], Result],
    dask: str = "",
) -> Iterator[tuple[int, Result]]:
    """(index, result) of every item, as they are done. `died(item)` answers for an item whose worker was killed.

    `dask` is the address of a Dask scheduler that runs the same function on its workers instead.
    """
    left = dict(enumerate(items))
    with _backend(dask):
        while left:
            try:
                for index, result in _run(function, left, workers):
                    del left[index]
                    yield index, result
            except TerminatedWorkerError:
                # One of the items in flight killed a worker: only these run again, each in a pool of its own.
                for index in list(left)[: 3 * workers]:
                    yield index, _run_alone(function, left.pop(index), died)


def _run(function: Callable, items: dict[int, Item], workers: int) -> Iterator[tuple[int, Result]]:
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
    yield from parallel(joblib.delayed(_numbered)(function, index, item) for index, item in list(items.items()))


def _numbered(function: Callable, index: int, item: Item) -> tuple[int, Result]:
    return index, function(item)


def _run_alone(function: Callable, item: Item, died: Callable[[Item], Result]) -> Result:
    try:
        return joblib.Parallel(n_jobs=2)([joblib.delayed(function)(item)])[0]  # n_jobs=1 would run it in this process
    except TerminatedWorkerError:
        return died(item)


def _backend(dask: str) -> AbstractContextManager:
    if not dask:
        return nullcontext()
    from dask.distributed import Client  # an extra: pip install aneurysm[dask]

    Client(dask)
    return joblib.parallel_config(backend="dask")
