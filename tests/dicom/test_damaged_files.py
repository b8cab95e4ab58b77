"""Damaged files end in a Series or in a ValueError that names them: no other exception, no hang, no crash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.dicom_damage import DAMAGES
from tests.read_damaged import read_in_a_process
from tests.sound_files import whole_files

N_EACH = 12  # damaged files of each kind of damage to each kind of file
SECONDS = 5.0


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    return whole_files(tmp_path_factory.mktemp("sound"))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_read_or_refused_by_name(tmp_path, sound, damage):
    rng = random.Random(damage.__name__)
    for name, path in sound.items():
        for i in range(N_EACH):
            (tmp_path / f"{name}-{i:03d}").write_bytes(damage(bytearray(path.read_bytes()), rng))
    files = sorted(tmp_path.iterdir())
    results, crash = read_in_a_process(files)
    assert not crash, f"{files[len(results)]}: {crash}"
    assert len(results) == len(sound) * N_EACH
    troubles = {file.name: r["trouble"] for file, r in zip(files, results, strict=True) if r["trouble"]}
    assert troubles == {}
    assert max(r["cpu_s"] for r in results) < SECONDS
    assert results[-1]["peak_gib"] < 2


def test_the_sound_files_are_read(tmp_path, sound):
    for name, path in sound.items():
        (tmp_path / name).write_bytes(path.read_bytes())
    results, crash = read_in_a_process(sorted(tmp_path.iterdir()))
    assert not crash and len(results) == len(sound) and all(result["read"] for result in results)
