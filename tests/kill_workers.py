"""Kills the workers of a Dask cluster that are at work, one after another."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread

from dask.distributed import Client


class KillWorkers:
    """While it is entered, workers get SIGKILL, each while it has work; `pids` are those killed.

    The first kill comes when `n_done()` has reached the first of `at`, and so on.
    """

    def __init__(self, address: str, n_done: Callable[[], int], at: Sequence[int]):
        self.address, self.n_done, self.at, self.pids = address, n_done, at, []
        self._over, self._thread = Event(), Thread(target=self._run, daemon=True)

    def __enter__(self) -> KillWorkers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with Client(self.address, set_as_default=False) as client:
            while len(self.pids) < len(self.at) and not self._over.is_set():
                time.sleep(0.02)
                at_work = [worker for worker, tasks in client.processing().items() if tasks]
                if at_work and self.n_done() >= self.at[len(self.pids)]:
                    self._kill(client, at_work[0])

    def _kill(self, client: Client, worker: str) -> None:
        pid = client.run(os.getpid, workers=[worker], on_error="ignore").get(worker)
        if pid and pid not in self.pids:
            os.kill(pid, signal.SIGKILL)
            self.pids.append(pid)
