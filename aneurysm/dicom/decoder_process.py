"""Decodes JPEG and JPEG-LS in a helper process, because GDCM crashes its process on some damaged files.

Each process has one helper. It starts when first needed and again after a crash, and ends with its caller. The request
for a frame is one JSON line, the reply a JSON line and the pixels.
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

TIMEOUT_S = 60.0  # for one frame; an undamaged one takes milliseconds

_lock = Lock()
_helpers: dict[int, subprocess.Popen] = {}  # by the caller's process id: a forked process must not use its parent's


def decode_apart(path: Path, offset: int, syntax: str, index: int, options: dict) -> np.ndarray:
    """Stored values (rows, cols) of one frame; `options` are passed to pydicom's decoder.

    Raises RuntimeError if the decoder refuses the frame, crashes or takes longer than TIMEOUT_S.
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
    """Kills a crashed helper and waits for its end: until then poll() would report it as running."""
    helper.kill()
    helper.wait()


def _serve() -> None:
    """Answers requests until stdin is closed."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a decoder prints must not mix with the replies
    for line in sys.stdin:
        try:
            array = _decode(**json.loads(line))
            reply = {"dtype": array.dtype.str, "shape": array.shape, "n_bytes": array.nbytes}
        except Exception as error:
            array, reply = None, {"error": f"{type(error).__name__}: {error}"[:1000]}
        replies.write(json.dumps(reply).encode() + b"\n" + (b"" if array is None else array.tobytes()))
        replies.flush()


def _decode(path: str, offset: int, syntax: str, index: int, options: dict) -> np.ndarray:
    """Decodes with GDCM if it is installed: pyjpegls, pydicom's alternative, takes a minute on a truncated frame."""
    decoder = get_decoder(UID(syntax))
    plugin = "gdcm" if "gdcm" in decoder.available_plugins else ""
    with open(path, "rb") as file:
        file.seek(offset)
        return decoder.as_array(file, index=index, raw=True, decoding_plugin=plugin, **options)[0]


if __name__ == "__main__":
    _serve()
