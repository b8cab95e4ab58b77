"""Reads damaged files in a process of its own: one path a line comes in, one JSON line about it goes out.

python -m tests.read_damaged
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np

from aneurysm.cache.head import find_head
from aneurysm.cache.slices import cached_slices
from aneurysm.dicom.intensity import Window
from aneurysm.dicom.series import read_series

ROOT = Path(__file__).parents[1]
GIB = 2**30
ADDRESS_SPACE = 12 * GIB


def what_came_of(path: Path) -> dict:
    """`trouble`, empty for a sound series or a ValueError that names the file; `read`, `cpu_s`, and in GiB what this
    process has held at most, and holds now."""
    start, trouble, read = time.process_time(), "", False
    try:
        series = read_series(path)
        read = bool(np.isfinite(series.pixels).all() and len(series.frames) == series.geometry.shape[0])
        trouble = "" if read else "pixels are not finite"
        window = find_head(series, Window(0, 600), 180)
        for image in cached_slices(series, window, [0]):
            trouble = trouble or ("" if np.isfinite(image).all() else "cached slice is not finite")
    except ValueError as error:
        trouble = "" if str(path) in str(error) else f"the file is not named: {error}"
    except BaseException as error:
        trouble = f"{type(error).__name__}: {error}"
    memory = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    peak, held = (int(memory[name].split()[0]) / 2**20 for name in ("VmHWM", "VmRSS"))  # kB
    return {"trouble": trouble, "read": read, "cpu_s": time.process_time() - start, "peak_gib": peak, "held_gib": held}


def read_in_a_process(files: list[Path]) -> tuple[list[dict], str]:
    """What `what_came_of` says of each file, read by a process of its own, and how that died, if it did."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.read_damaged"], input="".join(f"{file}\n" for file in files),
        capture_output=True, text=True, timeout=240, env=environment,
    )  # fmt: skip
    crash = f"exit {done.returncode}: {done.stderr[-300:]}" if done.returncode else ""
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], crash


if __name__ == "__main__":
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(what_came_of(Path(line.rstrip("\n")))), flush=True)
