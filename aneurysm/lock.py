"""A lock that lets one run of a script at a time work in a folder; it is released even when the process is killed."""

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
    """Locks `folder` for one run of `what`, the name of a script; only one process of a run may call it.

    The lock is the operating system's (flock) on <folder>/.<what>.lock. The file names the holder while the lock is
    held, and stays, empty, afterwards. Raises ValueError naming folder, process, host and time if another run holds
    the lock, CannotWrite if the folder cannot be written to. Without file locking it warns and runs unlocked.
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
    """Writes through the lock's descriptor: on NFS, closing a second descriptor of the file would drop the lock."""
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    holder = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": since})
    with suppress(OSError):  # disk full
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)


def _who(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f": process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
