"""Work done ahead of the caller: in order, a little ahead, and whatever happens to a worker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aneurysm.prefetch import prefetch_map


def square(item: int) -> int:
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
    assert list(prefetch_map(square, range(9), workers, give_up)) == [i * i for i in range(9)]


def test_a_worker_that_is_killed_costs_its_item_alone():
    items = [3, 4, -1, 5, 6, 7, 8, -2]
    expected = [9, 16, "-1 died", 25, 36, 49, 64, "-2 died"]
    assert list(prefetch_map(square, items, 2, give_up)) == expected


def test_no_more_is_done_ahead_than_there_are_workers(tmp_path):
    paths = [tmp_path / str(i) for i in range(8)]
    results = prefetch_map(touch, paths, 2, give_up)
    assert next(results) == paths[0]
    time.sleep(0.5)  # enough for the workers to do all of it, were they let
    assert len(list(tmp_path.iterdir())) <= 3
    results.close()


def test_no_items_are_no_results():
    assert list(prefetch_map(square, [], 2, give_up)) == []


def pid_of(item: int) -> int:
    time.sleep(0.1)
    return os.getpid()


def print_workers_and_wait() -> None:
    """Run in a process of its own by the test below."""
    results = prefetch_map(pid_of, range(9), 2, give_up)
    print(*{next(results) for _ in range(4)}, flush=True)
    time.sleep(60)


def test_workers_end_with_a_process_that_is_killed():
    command = [sys.executable, "-c", "from tests.test_prefetch import print_workers_and_wait as f; f()"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        assert workers and all(worker.is_running() for worker in workers)
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert not alive
