"""Handles signals that end a run: records them, so that it can save its state first, and sets the exit code.

SIGTERM comes from schedulers and launchers, SIGINT from the keyboard, SIGUSR1 from SLURM's --signal. The exit code is
128 + the signal's number, as in shells: 143, 130, 138 (Linux). A second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aneurysm.training.distributed import DistContext

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
ECHO_S = 2.0  # repeats within this time are ignored: schedulers signal all processes, and torchrun forwards the signal


class Interrupted(SystemExit):
    """Ends the program; `code` is the exit code."""


class Interrupt:
    """A context that records SIGNALS instead of ending the process; outside the main thread it does nothing."""

    def __init__(self):
        self.signum = 0  # of the first signal, in any process; 0 without one
        self._came = 0.0  # time of that signal (time.monotonic, s)
        self._breaks_off = False  # inside a block of interruptible()
        self._before: dict[int, Any] = {}  # signal number -> previous handler

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name

    def requested(self, world: DistContext) -> bool:
        """Whether any process has received a signal; every process must call it at the same step.

        Several processes exchange one number through gloo (0.5 ms for two), without waiting for the GPU.
        """
        self.signum = world.highest(self.signum)
        return self.signum != 0

    def check(self) -> None:
        """Raises Interrupted if a signal has been recorded."""
        if self.signum:
            raise Interrupted(128 + self.signum)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that can be aborted without loss: a signal during or before it raises Interrupted at once."""
        self._breaks_off = True
        try:
            self.check()
            yield
        finally:
            self._breaks_off = False

    def _note(self, number: int, _: Any) -> None:
        if self.signum and time.monotonic() - self._came > ECHO_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not self.signum:
            self.signum, self._came = number, time.monotonic()
            # torch's handler would raise, because the workers of its DataLoader may receive the signal, too
            self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _nothing)
        if self._breaks_off:
            self.check()


def _nothing(*_: Any) -> None:
    pass


def leave_signals_to_parent() -> None:
    """Moves a worker to its own process group and ignores SIGINT and SIGUSR1, so that only its parent ends it."""
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
