"""Decodes JPEG and JPEG-LS in a process of its own, because GDCM ends the process it runs in on some damaged files.

One helper serves this process; it is started when first needed, and again after a crash, and ends with its caller.
It is sent one JSON line a frame, and answers with a JSON line and the pixels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Lock, Timer

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

TIMEOUT_S = 60.0  # for one frame; a sound one takes milliseconds

_lock = Lock()
_helpers: dict[int, subprocess.Popen] = {}  # by the caller's process id: a fork must not share its parent's


def decode_apart(path: Path, offset: int, syntax: str, index: int, options: dict) -> np.ndarray:
    """Stored values (rows, cols) of one frame; `options` are those of pydicom's decoder.

    Raises RuntimeError where the decoder refuses the frame, crashes or does not come to an end.
    """
    request = {"path": str(path), "offset": offset, "syntax": str(syntax), "index": index, "options": options}
    with _lock:
        helper = _running()
        timer = Timer(TIMEOUT_S, helper.kill)
        timer.start()
        try:
            helper.stdin.write(json.dumps(request).encode() + b"\n")
            helper.stdin.flush()
            line = helper.stdout.readline()
            reply = json.loads(line or '{"error": "the decoder crashed"}')
            data = helper.stdout.read(reply.get("n_bytes", 0))
            if not line:
                _end(helper)
        except BrokenPipeError as error:
            _end(helper)
            raise RuntimeError("the decoder crashed") from error
        finally:
            timer.cancel()
    if "error" in reply:
        raise RuntimeError(reply["error"])
    return np.frombuffer(data, reply["dtype"]).reshape(reply["shape"])


def _running() -> subprocess.Popen:
    helper = _helpers.get(os.getpid())
    if helper is None or helper.poll() is not None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
        helper = subprocess.Popen(
            [sys.executable, "-m", "aneurysm.dicom.decoder_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        _helpers[os.getpid()] = helper
    return helper


def _end(helper: subprocess.Popen) -> None:
    """Waits until a crashed helper is gone: while it is going, it would be taken for one that still answers."""
    helper.kill()
    helper.wait()


def _serve() -> None:
    """Answers requests until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not mix with the answers
    for line in sys.stdin:
        try:
            array = _decode(**json.loads(line))
            reply = {"dtype": array.dtype.str, "shape": array.shape, "n_bytes": array.nbytes}
        except Exception as error:
            array, reply = None, {"error": f"{type(error).__name__}: {error}"[:1000]}
        replies.write(json.dumps(reply).encode() + b"\n" + (b"" if array is None else array.tobytes()))
        replies.flush()


def _decode(path: str, offset: int, syntax: str, index: int, options: dict) -> np.ndarray:
    """By GDCM where it is there: pyjpegls, which pydicom asks as well, takes a minute over a frame cut short."""
    decoder = get_decoder(UID(syntax))
    plugin = "gdcm" if "gdcm" in decoder.available_plugins else ""
    with open(path, "rb") as file:
        file.seek(offset)
        return decoder.as_array(file, index=index, raw=True, decoding_plugin=plugin, **options)[0]


if __name__ == "__main__":
    _serve()
