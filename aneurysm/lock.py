"""One run of a script at a time in a folder: a lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from aneurysm.paths import writing_to


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Holds `folder` for one run of `what`, the name of a script; of several processes of a run only one may ask.

    The lock is the operating system's (flock) on <folder>/.<what>.lock, which stays there, empty, and says while it is
    held by whom. Raises ValueError naming folder, process, host and time where another run holds it, CannotWrite where
    the folder takes no files. On file systems without locks a warning is given, and the block runs without one.
    """
    path = folder / f".{what}.lock"
    lock = FileLock(path, timeout=0, on_acquired=_write_holder)
    try:
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder}: expected no other run of {what}, found one{_who(path)}; wait for its end, or end it"
        ) from None
    except OSError as error:
        warnings.warn(f"{folder}: no lock to be had ({error}); start no second {what} here", stacklevel=3)
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):
                os.truncate(path, 0)
            lock.release()


def _write_holder(descriptor: int) -> None:
    """Through the lock's own descriptor: on NFS the lock would be lost by closing another one of the same file."""
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    holder = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": since})
    with suppress(OSError):  # a full disk
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)


def _who(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f": process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
