"""Runs preprocess_data.py on small synthetic series, and tells what it has made."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def head_ct(n_slices: int, size: int = 64) -> np.ndarray:
    """(slices, rows, columns) int16 HU: a cylinder of soft tissue in air; a bright pixel marks each slice."""
    row, col = np.mgrid[:size, :size] - size / 2
    volume = np.where(np.hypot(row, col) < 0.4 * size, 40, -1000).astype(np.int16)
    volume = np.repeat(volume[None], n_slices, axis=0)
    for i in range(n_slices):
        volume[i, size // 2, size // 4 + i % (size // 2)] = 500
    return volume


def run(data_dir: Path, *args: str, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "preprocess_data.py", "--data_dir", str(data_dir), "--workers", "2", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **kwargs)


def digest(data_dir: Path) -> dict[str, str]:
    """Every file that preprocessing made, hidden ones too, and the hash of its bytes."""
    made = [f for f in data_dir.rglob("*") if f.is_file() and "series" not in f.relative_to(data_dir).parts[:1]]
    return {str(f.relative_to(data_dir)): hashlib.sha256(f.read_bytes()).hexdigest() for f in made}


def wait_for_files(folder: Path, n_files: int, process: subprocess.Popen) -> None:
    while process.poll() is None and len(list(folder.glob("*.json"))) < n_files:
        time.sleep(0.002)


def wait_for_orphans(data_dir: Path) -> None:
    """Waits until no worker of a killed run writes any more (loky's workers end when their parent has gone)."""
    last = None
    while last != (last := sorted(data_dir.rglob(".*.part"))) or last is None:
        time.sleep(0.2)
