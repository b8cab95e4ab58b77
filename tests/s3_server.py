"""An S3 server for tests: moto's, in a process of its own on loopback, that can be stopped and started again."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import fsspec


class S3Server:
    """One bucket; like S3 and unlike moto, it has after a stop what it had before."""

    def __init__(self, bucket: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url, self.bucket = f"http://127.0.0.1:{self.port}", bucket
        self._process: subprocess.Popen | None = None
        self._kept: dict[str, bytes] = {}

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which AWS's clients find this server."""
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
        return keys | {"AWS_ENDPOINT_URL": self.url, "AWS_MAX_ATTEMPTS": "1"}

    @property
    def is_down(self) -> bool:
        return self._process is None

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            assert self._process.poll() is None, "the server has ended"
            time.sleep(0.1)
        store = fsspec.filesystem("s3")
        store.mkdir(self.bucket)
        for path, content in self._kept.items():
            store.pipe_file(path, content)

    def stop(self) -> None:
        if self._process is not None:
            self._kept = {path: self.read(path) for path in self.paths(self.bucket)}
            self._process.kill()
            self._process.wait()
            self._process = None

    def paths(self, below: str) -> list[str]:
        """All objects below bucket/prefix."""
        store = fsspec.filesystem("s3")
        store.invalidate_cache()
        return store.find(below)

    def read(self, path: str) -> bytes:
        return fsspec.filesystem("s3").cat_file(path)
