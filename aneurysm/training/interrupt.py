"""Signals that ask a run to end: noted, so that it can keep its state first, and ends with a code that names them.

SIGTERM comes from schedulers and launchers, SIGINT from the keyboard, SIGUSR1 from SLURM's --signal. The exit code is
128 + the signal's number, as shells have it: 143, 130, 138. A second signal ends the process at once.
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
ECHO_S = 2.0  # what follows within is no second signal: schedulers tell all processes, and torchrun tells them again


class Interrupted(SystemExit):
    """Ends the program; `code` is the exit code."""


class Interrupt:
    """As a context, notes the signals that come meanwhile; outside the main thread, none."""

    def __init__(self):
        self.signum = 0  # of the first that came, here or in another process; 0 while there is none
        self._came = 0.0  # when, in seconds of the monotonic clock
        self._breaks_off = False  # whether in a block of breaking_off
        self._before: dict[int, Any] = {}  # the handlers that were there, by signal

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
        """Whether any process was told to end; every process has to ask at the same step.

        Between several processes this is one number through gloo, 0.5 ms for two; no GPU waits for it.
        """
        self.signum = world.highest(self.signum)
        return self.signum != 0

    def check(self) -> None:
        """Raises Interrupted where a signal has come."""
        if self.signum:
            raise Interrupted(128 + self.signum)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that nothing is lost with: a signal ends it at once, by Interrupted, or keeps it from beginning."""
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
            # torch's handler would raise, since the processes of its loader have been told to end, too
            self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _nothing)
        if self._breaks_off:
            self.check()


def _nothing(*_: Any) -> None:
    pass


def leave_signals_to_parent() -> None:
    """For a process that works for another one, which ends it: what the group or the keyboard is told passes it by."""
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
