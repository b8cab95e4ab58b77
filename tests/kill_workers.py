"""Kills the workers of a Dask cluster that are at work, one after another."""

from __future__ import annotations

import os
import signal
import time
from threading import Thread

from dask.distributed import Client


class KillWorkers(Thread):
    """Sends SIGKILL to `n_kills` workers in turn, each while it works on something; `killed` are their process ids."""

    def __init__(self, address: str, n_kills: int):
        super().__init__(daemon=True)
        self.address, self.n_kills, self.killed = address, n_kills, []

    def run(self) -> None:
        with Client(self.address, set_as_default=False) as client:
            while len(self.killed) < self.n_kills:
                time.sleep(0.1)
                at_work = [worker for worker, tasks in client.processing().items() if tasks]
                if at_work:
                    self._kill(client, at_work[0])

    def _kill(self, client: Client, worker: str) -> None:
        pid = client.run(os.getpid, workers=[worker], on_error="ignore").get(worker)
        if pid and pid not in self.killed:
            os.kill(pid, signal.SIGKILL)
            self.killed.append(pid)
