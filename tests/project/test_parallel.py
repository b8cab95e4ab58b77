"""Work in processes: every item is answered once, also when one of them kills its worker."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import dask
import psutil
import pytest
from dask import distributed

from aneurysm.parallel import prefetch_map, run_all
from tests.kill_workers import KillWorkers

pytestmark = pytest.mark.timeout(120)


def square(item: int) -> int:
    return item * item


def die_on_five(item: int) -> str:
    time.sleep(0.2)  # so that another one waits on the same worker
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"done {item}"


def work_a_while(notes: Path, item: int) -> int:
    (notes / f"{item}-{os.getpid()}").touch()
    time.sleep(0.3)
    return item * item


def answer(item: int) -> str:
    return f"died {item}"


def test_every_item_is_answered_under_its_own_index():
    assert dict(run_all(square, range(10, 20), workers=2, died=answer)) == {i: (10 + i) ** 2 for i in range(10)}


def test_an_item_that_kills_its_worker_is_reported_and_the_others_are_done():
    results = dict(run_all(die_on_five, list(range(12)), workers=2, died=answer))
    assert results == {i: "died 5" if i == 5 else f"done {i}" for i in range(12)}


def slow_square(item: int) -> int:
    time.sleep(0.05)
    return item * item


@pytest.mark.parametrize("workers", [1, 2])
def test_no_item_is_begun_after_one_that_ends_the_run_and_those_in_work_are_answered(workers):
    done = list(run_all(slow_square, range(100), workers, answer, ends=lambda result: result == 9))
    indices = [index for index, _ in done]
    assert {0, 1, 2, 3} <= set(indices) and len(set(indices)) == len(indices) <= 4 + 3 * workers


def die_on_five_or_be_slow(item: int) -> str:
    if item > 5:
        time.sleep(1)  # still in work when the worker of 5 dies, so that it is done again, alone
    return die_on_five(item)


def test_no_item_is_begun_alone_after_one_that_ends_the_run():
    results = dict(run_all(die_on_five_or_be_slow, range(4, 40), 2, answer, ends="done 6".__eq__))
    assert results == {0: "done 4", 1: "died 5", 2: "done 6"}


def test_an_address_of_a_dask_scheduler_runs_the_same_function_there():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        results = dict(run_all(square, range(8), workers=2, died=answer, dask=cluster.scheduler_address))
        there = {"dask": cluster.scheduler_address, "ends": lambda result: result == 9}
        ended = dict(run_all(slow_square, range(100), workers=2, died=answer, **there))
    assert results == {i: i * i for i in range(8)}
    assert ended[3] == 9 and len(ended) < 50


def test_an_item_that_kills_its_dask_worker_every_time_is_reported_too():
    few_tries = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with few_tries, distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        results = list(run_all(die_on_five, list(range(8)), 2, answer, dask=cluster.scheduler_address))
    # Dask blames what waited on the killed worker, too: alone, the others are done.
    assert sorted(results) == [(i, "died 5" if i == 5 else f"done {i}") for i in range(8)]


def test_dask_workers_killed_one_after_another_while_they_work_cost_no_item(tmp_path):
    results = []
    with (
        distributed.LocalCluster(3, threads_per_worker=1, dashboard_address=None) as cluster,
        KillWorkers(cluster.scheduler_address, lambda: len(results), at=(1, 5, 10, 15)) as killed,
    ):
        for result in run_all(partial(work_a_while, tmp_path), range(40), 2, answer, cluster.scheduler_address):
            results.append(result)
    assert sorted(results) == [(i, i * i) for i in range(40)]  # each once
    assert len(set(killed.pids)) == 4
    begun = Counter(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert sum(begun.values()) > 40  # what the killed were at was begun again


def square_or_die(item: int) -> int:
    """Of a negative number it dies; the first numbers take longest."""
    if item < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02 if item < 2 else 0)
    return item * item


def touch(path: Path) -> Path:
    path.touch()
    return path


def give_up(item: int) -> str:
    return f"{item} died"


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(prefetch_map(square_or_die, range(9), workers, give_up)) == [i * i for i in range(9)]


def test_a_worker_that_is_killed_costs_its_item_alone():
    items = [3, 4, -1, 5, 6, 7, 8, -2]
    expected = [9, 16, "-1 died", 25, 36, 49, 64, "-2 died"]
    assert list(prefetch_map(square_or_die, items, 2, give_up)) == expected


def test_no_more_is_done_ahead_than_there_are_workers(tmp_path):
    paths = [tmp_path / str(i) for i in range(8)]
    results = prefetch_map(touch, paths, 2, give_up)
    assert next(results) == paths[0]
    time.sleep(0.5)  # enough for the workers to do all of it, were they let
    assert len(list(tmp_path.iterdir())) <= 3
    results.close()


def test_no_items_are_no_results():
    assert list(prefetch_map(square_or_die, [], 2, give_up)) == []


def pid_of(item: int) -> int:
    time.sleep(0.1)
    return os.getpid()


def print_workers_and_wait() -> None:
    """Run in a process of its own by the test below."""
    results = prefetch_map(pid_of, range(9), 2, give_up)
    print(*{next(results) for _ in range(4)}, flush=True)
    time.sleep(60)


def test_workers_end_with_a_process_that_is_killed():
    command = [sys.executable, "-c", "from tests.project.test_parallel import print_workers_and_wait as f; f()"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        assert workers and all(worker.is_running() for worker in workers)
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert not alive
