"""Damaged files end in a Series or in a ValueError that names them: no other exception, no hang, no crash."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dicom_damage import DAMAGES
from tests.sound_files import whole_files

N_EACH = 12  # damaged files of each kind of damage to each kind of file
SECONDS = 5.0
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    return whole_files(tmp_path_factory.mktemp("sound"))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_read_or_refused_by_name(tmp_path, sound, damage):
    rng = random.Random(damage.__name__)
    for name, path in sound.items():
        for i in range(N_EACH):
            (tmp_path / f"{name}-{i:03d}").write_bytes(damage(bytearray(path.read_bytes()), rng))
    files, results, crash = read_in_a_process(tmp_path)
    assert not crash, f"{files[len(results)]}: {crash}"
    assert len(results) == len(sound) * N_EACH
    troubles = {file.name: r["trouble"] for file, r in zip(files, results, strict=True) if r["trouble"]}
    assert troubles == {}
    assert max(r["cpu_s"] for r in results) < SECONDS
    assert results[-1]["peak_gib"] < 2


def read_in_a_process(folder: Path) -> tuple[list[Path], list[dict], str]:
    """The files, what read_damaged says of each, and how its process died, if it did."""
    files = sorted(folder.iterdir())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.read_damaged"], input="".join(f"{file}\n" for file in files),
        capture_output=True, text=True, timeout=240, env=environment,
    )  # fmt: skip
    crash = f"exit {done.returncode}: {done.stderr[-300:]}" if done.returncode else ""
    return files, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], crash


def test_the_sound_files_are_read(tmp_path, sound):
    for name, path in sound.items():
        (tmp_path / name).write_bytes(path.read_bytes())
    _, results, crash = read_in_a_process(tmp_path)
    assert not crash and len(results) == len(sound) and all(result["read"] for result in results)
