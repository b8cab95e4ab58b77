"""One function over many items in worker processes, where a worker that dies costs one item and not the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from aneurysm.package import without_extra

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    died: Callable[[Item], Result],
    dask: str = "",
    ends: Callable[[Result], bool] = lambda result: False,
) -> Iterator[tuple[int, Result]]:
    """(index, result) of every item, as they are done. `died(item)` answers for an item whose worker was killed.

    One worker is this process: an item that kills it ends the run.
    `dask` is the address of a Dask scheduler that runs the same function on its workers instead. After a result that
    `ends` says True of, no further item is begun; those in work come to their end (with Dask: are given up).
    """
    run = run_on_dask(function, items, died, dask) if dask else _run_here(function, items, workers, died, ends)
    for index, result in run:
        yield index, result
        if dask and ends(result):
            return


def _run_here(
    function: Callable, items: Sequence, workers: int, died: Callable, ends: Callable
) -> Iterator[tuple[int, Result]]:
    left, ended = dict(enumerate(items)), False

    def begun() -> Iterator[tuple[int, Item]]:
        for index, item in list(left.items()):
            if ended:
                return
            yield index, item

    while left and not ended:
        try:
            for index, result in _run_pool(function, begun(), workers):
                del left[index]
                ended = ended or ends(result)
                yield index, result
        except TerminatedWorkerError:
            # One of the items in flight killed a worker: only these run again, each in a pool of its own.
            for index in list(left)[: 3 * workers]:
                if ended:
                    return
                result = _run_alone(function, left.pop(index), died)
                ended = ends(result)
                yield index, result


def _run_pool(function: Callable, items: Iterable[tuple[int, Item]], workers: int) -> Iterator[tuple[int, Result]]:
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
    yield from parallel(joblib.delayed(_numbered)(function, index, item) for index, item in items)


def _numbered(function: Callable, index: int, item: Item) -> tuple[int, Result]:
    return index, function(item)


def _run_alone(function: Callable, item: Item, died: Callable[[Item], Result]) -> Result:
    try:
        return joblib.Parallel(n_jobs=2)([joblib.delayed(function)(item)])[0]  # n_jobs=1 would run it in this process
    except TerminatedWorkerError:
        return died(item)


def run_on_dask(
    function: Callable[[Item], Result], items: Sequence[Item], died: Callable[[Item], Result], address: str
) -> Iterator[tuple[int, Result]]:
    """As run_all, on the workers of the Dask scheduler at `address`; an item whose worker dies runs on another one.

    Dask gives an item up when its workers have died too often (`distributed.scheduler.allowed-failures`), and cannot
    tell which of those on a worker killed it: each of them runs once more, alone, after all others. Joblib's backend
    for Dask would wait for ever. Raises ValueError where Dask is not installed.
    """
    try:
        from dask.distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        raise without_extra(f"--dask {address}", "dask", error) from error

    suspects = []
    with Client(address) as client:
        index_of = {future: i for i, future in enumerate(client.map(function, items, pure=False))}
        for future in as_completed(index_of):
            index = index_of.pop(future)
            try:
                yield index, future.result()
            except KilledWorker:
                suspects.append(index)
        for index in suspects:
            try:
                yield index, client.submit(function, items[index], pure=False).result()
            except KilledWorker:
                yield index, died(items[index])
