"""Copies a run's files to S3 in the background after each epoch, and downloads them to resume on another machine.

S3 writes are atomic per object, so an aborted upload leaves the previous version. resume.pth is uploaded after the
other files and sync.json last: the epoch and optimizer step in it are complete. They, not file times, decide whether
the remote files are newer than the local ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aneurysm.package import without_extra
from aneurysm.paths import atomic_write, remove_leftovers
from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.distributed import DistContext

TRIES = 3  # at the end of the run; before, each epoch tries once
PAUSE_S = 3.0  # between two tries
INDEX = "sync.json"

Signature = tuple[int, int, int]  # inode, bytes, modification time (ns): change with each write


class RunCopies:
    """Copies of a run's folder at <url>/<path of the folder below model_dir>; does nothing if `url` is empty.

    Only the main process copies. Upload errors are logged and retried, and never stop the training. Raises ValueError
    for an unknown protocol or if its package is missing.
    """

    def __init__(self, url: str, folder: Path, model_dir: Path, world: DistContext):
        self.folder, self.world = folder, world
        self.url = _join(url, folder.relative_to(model_dir)) if url and world.is_main else ""
        self._state: dict[str, Any] | None = None  # state of the local files
        self._told: dict[str, Any] | None = None  # state of the remote files, as in sync.json
        self._sent: dict[str, Signature] = {}
        self._job: Future | None = None
        self._failed = False
        if self.url:
            self._store, self._root = _open_store(self.url)
            self._thread = ThreadPoolExecutor(1, "sync")
            remove_leftovers(folder)

    def fetch(self) -> None:
        """Downloads the remote files if they are of a later step of the same run, or if there is no local run.

        Every process must call it before resuming; it returns in all once the files are there. Raises ValueError if
        local and remote runs differ, and if the remote is unreachable without a local run: a new run would overwrite
        the remote one.
        """
        if self.url:
            here = self._state_here()
            self._state = here or None
            try:
                self._fetch(here)
            except ValueError:
                raise
            except Exception as error:  # any error of s3fs: with local files the run can continue
                if not here:
                    raise ValueError(f"{self.url}: expected a run or none, found {_line(error)}") from error
                _log(f"{self.url} does not answer ({_line(error)}); epoch {here['epoch']} of {self.folder} goes on")
        self.world.wait()

    def changed(self, history: list[dict], step: int) -> None:
        """Uploads the changed files in the background, after the upload that is running.

        `history` has one row per epoch, `step` is the number of optimizer steps.
        """
        if self.url:
            self._state = _state(history, step)
            if self._job is not None and self._job.cancel():  # not started; this upload includes its files
                shutil.rmtree(self._held)
            self._held, *what = self._snapshot()
            self._job = self._thread.submit(self._copy, self._held, *what)

    def close(self) -> None:
        """Waits for the running upload and uploads the rest, in up to TRIES tries; logs the files that failed."""
        if not self.url or self._state is None:
            return
        if self._job is not None:
            self._job.result()
        if not any(self._copy(*self._snapshot()) for _ in _tries()):
            _log(f"NOT in {self.url}: {', '.join([*self._changed(), INDEX])}; {self.folder} has them")
        self._thread.shutdown()

    def _state_here(self) -> dict[str, Any]:
        path = self.folder / "resume.pth"
        if not path.exists():
            return {}
        saved = load_checkpoint(path)
        return _state(saved["history"], saved["run"]["step"])

    def _fetch(self, here: dict[str, Any]) -> None:
        try:
            there = json.loads(self._store.cat_file(f"{self._root}/{INDEX}"))
        except FileNotFoundError:
            there = {}
        files = [Path(name).name for name in there.pop("files", [])]  # names only: never write outside the folder
        if there and here and there["run"] and here["run"] and there["run"] != here["run"]:
            raise ValueError(f"{self.url}: expected the run of {self.folder}, found another; move one of them away")
        if there and (not here or _reached(there) > _reached(here)):
            for name in files:
                with atomic_write(self.folder / name) as beside:
                    self._store.get_file(f"{self._root}/{name}", str(beside))
            _log(f"epoch {there['epoch']} fetched from {self.url}")
            self._state = here = there
        if here and there == here:
            self._told, self._sent = there, {name: s for name, s in self._changed().items() if name in files}

    def _changed(self) -> dict[str, Signature]:
        """Local files that are not uploaded or have changed since, with their signatures; resume.pth last."""
        files = [file for file in self.folder.iterdir() if file.is_file() and not file.name.startswith(".")]
        files.sort(key=lambda file: _resume_last(file.name))
        signatures = {file.name: _signature(file) for file in files}
        return {name: s for name, s in signatures.items() if self._sent.get(name) != s}

    def _snapshot(self) -> tuple[Path, dict[str, Signature], dict[str, Any]]:
        """A snapshot of the changed files to upload during training: folder of hard links, their signatures, state."""
        held = Path(tempfile.mkdtemp(".part", ".sync.", self.folder))
        files = self._changed()
        for name in files:
            _link(self.folder / name, held / name)
        return held, files, dict(self._state)

    def _copy(self, held: Path, files: dict[str, Signature], state: dict[str, Any]) -> bool:
        """Uploads a snapshot; True on success. Logs failures and the first success after one."""
        try:
            for name, signature in files.items():
                if self._sent.get(name) == signature:  # uploaded since this snapshot was made
                    continue
                self._store.put_file(str(held / name), f"{self._root}/{name}")
                self._sent[name] = signature
            if files or state != self._told:
                index = state | {"files": sorted(self._sent, key=_resume_last)}
                self._store.pipe_file(f"{self._root}/{INDEX}", json.dumps(index).encode())
        except Exception as error:  # any error of s3fs; training continues
            left = [name for name in files if self._sent.get(name) != files[name]] + [INDEX]
            _log(f"epoch {state['epoch']}: {', '.join(left)} cannot be copied to {self.url} now ({_line(error)})")
            self._failed = True
            return False
        finally:
            shutil.rmtree(held, ignore_errors=True)
        if self._failed:
            _log(f"epoch {state['epoch']}: {self.url} has all files again")
        self._told, self._failed = state, False
        return True


def copy_up(files: Sequence[Path], url: str, below: Path) -> None:
    """Uploads files to <url>/<their path below `below`>, in up to TRIES tries, and logs those that failed.

    Does nothing if `url` is empty. Raises ValueError for an unknown protocol or if its package is missing.
    """
    if not url:
        return
    store, root = _open_store(url)
    left = list(files)
    for _ in _tries():
        try:
            while left:
                store.put_file(str(left[0]), _join(root, left[0].relative_to(below)))
                del left[0]
            return
        except Exception as error:
            _log(f"{left[0]} cannot be copied to {url} now ({_line(error)})")
    _log(f"NOT in {url}: {', '.join(map(str, left))}")


def _open_store(url: str) -> tuple[Any, str]:
    """(fsspec file system, path) of a URL; ValueError for an unknown protocol or if its package is missing."""
    try:
        from fsspec.core import url_to_fs

        is_folder = "://" not in url or url.startswith("file://")
        return url_to_fs(url, **({"auto_mkdir": True} if is_folder else {}))
    except ImportError as error:
        raise without_extra(url, "s3", error) from error


def _state(history: list[dict], step: int) -> dict[str, Any]:
    """Progress and identity of a run: `run` is a hash of the first row of its history, "" before the first epoch ends
    (matches any run)."""
    if not history:
        return {"epoch": 0, "step": step, "run": ""}
    first = json.dumps(history[0], sort_keys=True, default=float)
    run = hashlib.sha256(first.encode()).hexdigest()[:16]
    return {"epoch": int(history[-1]["epoch"]), "step": step, "run": run}


def _reached(state: dict[str, Any]) -> tuple[int, int]:
    return state["epoch"], state.get("step", 0)  # sync.json of an earlier version has no step


def _signature(file: Path) -> Signature:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _link(file: Path, at: Path) -> None:
    """Hard link, or a copy where links are not possible; replacing the file later leaves the link unchanged."""
    try:
        os.link(file, at)
    except OSError:
        shutil.copyfile(file, at)


def _resume_last(name: str) -> tuple[bool, str]:
    return name == "resume.pth", name


def _join(url: str, path: Path) -> str:
    return f"{url.rstrip('/')}/{path.as_posix()}"


def _tries() -> Iterator[int]:
    for number in range(TRIES):
        time.sleep(PAUSE_S if number else 0)
        yield number


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _log(text: str) -> None:
    tqdm.write(f"sync: {text}")  # safe beside the progress bar of another thread
