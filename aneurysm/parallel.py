"""Maps a function over many items in worker processes; a worker that dies costs one item, not the run."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import forkserver
from threading import Thread
from typing import TypeVar

from aneurysm.package import without_extra

Item = TypeVar("Item")
Result = TypeVar("Result")

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def run_all(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    died: Callable[[Item], Result],
    dask: str = "",
    ends: Callable[[Result], bool] = lambda result: False,
) -> Iterator[tuple[int, Result]]:
    """Yields (index, result) of every item as it finishes.

    `died(item)` gives the result of an item whose worker was killed twice (out of memory, a crash in a decoder). With
    one worker everything runs in this process, and an item that kills it ends the run. `dask` is the address of a Dask
    scheduler that runs the function on its workers instead. After a result for which `ends` returns True, no further
    item starts; running items finish (with Dask they are dropped).
    """
    if dask:
        run = run_on_dask(function, items, died, dask)
    elif workers <= 1:
        run = ((index, function(item)) for index, item in enumerate(items))
    else:
        yield from _run_pools(function, items, workers, died, ends)
        return
    for index, result in run:
        yield index, result
        if ends(result):
            return


def prefetch_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, died: Callable[[Item], Result]
) -> Iterator[Result]:
    """Yields the result of every item in order; workers compute a few items ahead of the caller.

    With `workers` below 1 this process computes each result when it is needed. `died` as in run_all.
    """
    if workers < 1:
        yield from map(function, items)
        return
    for _, result in _run_pools(function, items, workers, died, ordered=True):
        yield result


def _run_pools(
    function: Callable,
    items: Sequence,
    workers: int,
    died: Callable,
    ends: Callable = lambda result: False,
    ordered: bool = False,
) -> Iterator[tuple[int, Result]]:
    """Yields the results of a pool; when a worker dies, each item in flight runs alone, the rest in a new pool."""
    left, ended = dict(enumerate(items)), False

    def begun() -> Iterator[tuple[int, Item]]:
        for index, item in list(left.items()):
            if ended:
                return
            yield index, item

    while left and not ended:
        try:
            for index, result in _run_pool(function, begun(), min(workers, len(left)), ordered):
                del left[index]
                ended = ended or ends(result)
                yield index, result
        except BrokenProcessPool:
            for index in list(left)[: _in_flight(workers, ordered)]:
                if ended:
                    return
                result = _run_alone(function, left.pop(index), died)
                ended = ends(result)
                yield index, result


def _run_pool(
    function: Callable, items: Iterable[tuple[int, Item]], workers: int, ordered: bool
) -> Iterator[tuple[int, Result]]:
    """Yields (index, result); keeps a few items in flight, so that no worker is idle."""
    pool, items, waiting, in_flight = _pool(function, workers), iter(items), {}, _in_flight(workers, ordered)
    try:
        while True:
            for index, item in islice(items, in_flight - len(waiting)):
                waiting[pool.submit(function, item)] = index
            if not waiting:
                return
            done = [next(iter(waiting))] if ordered else wait(waiting, return_when=FIRST_COMPLETED).done
            for future in sorted(done, key=_is_broken):  # first the items that finished before the pool broke
                yield waiting.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _in_flight(workers: int, ordered: bool) -> int:
    return workers + 1 if ordered else 2 * workers


def _is_broken(future: Future) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


def _run_alone(function: Callable, item: Item, died: Callable[[Item], Result]) -> Result:
    with _pool(function, 1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return died(item)


def _pool(function: Callable, workers: int) -> ProcessPoolExecutor:
    """A pool of processes that share nothing with this one: a fork would copy held locks and the GPU's state."""
    start_server(getattr(function, "func", function).__module__)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(METHOD), initializer=_end_with_parent)


def start_server(module: str) -> None:
    """Starts the fork server, which imports `module` once for all workers; does nothing on systems without one.

    Called early, it imports while this process does something else. Each worker uses one OpenMP thread.
    """
    if METHOD != "forkserver":
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is loaded
    multiprocessing.set_forkserver_preload([module])
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["OMP_NUM_THREADS"]
        os.environ |= {"OMP_NUM_THREADS": before} if before is not None else {}


def _end_with_parent() -> None:
    """Ends this worker when its parent ends for any reason; otherwise it would wait for items forever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def run_on_dask(
    function: Callable[[Item], Result], items: Sequence[Item], died: Callable[[Item], Result], address: str
) -> Iterator[tuple[int, Result]]:
    """As run_all, on the workers of the Dask scheduler at `address`; an item whose worker dies runs on another one.

    Dask gives up an item after too many of its workers died (`distributed.scheduler.allowed-failures`), but cannot tell
    which item on a worker killed it. Each suspect therefore runs once more, alone, after all others. Raises ValueError
    if Dask is not installed.
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
