"""One function over many items in worker processes, where a worker that dies costs one item and not the run."""

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
    """(index, result) of every item, as they are done. `died(item)` answers for an item whose worker was killed twice
    (out of memory, a crash in a decoder).

    One worker is this process: an item that kills it ends the run.
    `dask` is the address of a Dask scheduler that runs the same function on its workers instead. After a result that
    `ends` says True of, no further item is begun; those in work come to their end (with Dask: are given up).
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
    """The result of every item, in order, a few items ahead of the caller, however slowly it takes them.

    Without workers this process computes them, none ahead. `died` as in run_all.
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
    """The results of a pool; where an item kills it, those in flight run alone, and the rest in another pool."""
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
    """A few items are in flight, so that no worker waits; what is done waits for the caller."""
    pool, items, waiting, in_flight = _pool(function, workers), iter(items), {}, _in_flight(workers, ordered)
    try:
        while True:
            for index, item in islice(items, in_flight - len(waiting)):
                waiting[pool.submit(function, item)] = index
            if not waiting:
                return
            done = [next(iter(waiting))] if ordered else wait(waiting, return_when=FIRST_COMPLETED).done
            for future in sorted(done, key=_is_broken):  # first those that were done when the pool broke
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
    """Of processes that share nothing with this one: a fork would copy its threads' locks and the GPU's state."""
    start_server(getattr(function, "func", function).__module__)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(METHOD), initializer=_end_with_parent)


def start_server(module: str) -> None:
    """Where the system can, all workers are forked off a server that loads `module` once for all; it is started here.

    Asked for early, it loads while this process does something else. Workers have one thread for matrices.
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
    """Ends this worker when its parent is gone, however it ended: left alone it would wait for items for ever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def run_on_dask(
    function: Callable[[Item], Result], items: Sequence[Item], died: Callable[[Item], Result], address: str
) -> Iterator[tuple[int, Result]]:
    """As run_all, on the workers of the Dask scheduler at `address`; an item whose worker dies runs on another one.

    Dask gives an item up when its workers have died too often (`distributed.scheduler.allowed-failures`), and cannot
    tell which of those on a worker killed it: each of them runs once more, alone, after all others. Raises ValueError
    where Dask is not installed.
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
