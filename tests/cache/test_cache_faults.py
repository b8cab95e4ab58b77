"""Damaged files of the cache: named when they are read, found and made anew by preprocess_data.py."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aneurysm.cache.cache import open_cache
from aneurysm.cache.preprocess import preprocess_series
from aneurysm.cache.storage import ENDINGS
from tests.cache.test_storage import SETTINGS, write_data
from tests.preprocess_script import run

FILES = ("npy_sequence/a{}", "npy_vessels/a{}", "npy_sequence/a.json")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def flip(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 4
    path.write_bytes(content)


@pytest.fixture(scope="module", params=ENDINGS)
def sound(request, tmp_path_factory) -> tuple[Path, str]:
    """A folder with one cached series that has vessels, and its storage."""
    data_dir = tmp_path_factory.mktemp("data")
    write_data(data_dir)
    assert preprocess_series(data_dir, "a", SETTINGS, slices=False, storage=request.param).kind == ""
    return data_dir, request.param


@pytest.fixture
def copy(sound, tmp_path) -> tuple[Path, str]:
    return shutil.copytree(sound[0], tmp_path / "data", copy_function=shutil.copy2), sound[1]


def cached_bytes(data_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for folder in ("npy_sequence", "npy_vessels")
            for path in (data_dir / folder).iterdir()}  # fmt: skip


def again(data_dir: Path, storage: str, verify: bool):
    return preprocess_series(data_dir, "a", SETTINGS, slices=False, storage=storage, verify=verify)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("spoil", [cut, flip])
def test_a_damaged_file_is_named_and_made_anew_with_the_same_bytes(copy, file, spoil):
    data_dir, storage = copy
    path, before = data_dir / file.format(ENDINGS[storage]), cached_bytes(data_dir)
    assert again(data_dir, storage, verify=True).was_cached
    spoil(path)
    outcome = again(data_dir, storage, verify=True)
    assert outcome.kind == "" and not outcome.was_cached and cached_bytes(data_dir) == before
    assert len(outcome.damage) == 1 and outcome.damage[0].startswith(f"{path}: expected ")
    assert again(data_dir, storage, verify=True).damage == ()


@pytest.mark.parametrize(("file", "spoil", "is_seen"), [(FILES[0], cut, True), (FILES[1], cut, True),
                                                        (FILES[2], flip, True), (FILES[0], flip, False)])  # fmt: skip
def test_without_verify_sizes_and_the_description_are_looked_at(copy, file, spoil, is_seen):
    data_dir, storage = copy
    spoil(data_dir / file.format(ENDINGS[storage]))
    outcome = again(data_dir, storage, verify=False)
    assert outcome.was_cached != is_seen and bool(outcome.damage) == is_seen


def test_a_missing_file_is_made_anew(copy):
    data_dir, storage = copy
    path = data_dir / FILES[1].format(ENDINGS[storage])
    path.unlink()
    assert again(data_dir, storage, verify=False).damage == (f"{path}: No such file or directory",)
    assert path.exists()


def test_damage_is_said_even_where_the_dicom_files_have_gone(copy):
    data_dir, storage = copy
    cut(data_dir / FILES[0].format(ENDINGS[storage]))
    shutil.rmtree(data_dir / "series")
    outcome = again(data_dir, storage, verify=True)
    assert outcome.kind == "missing folder" and "bytes, found" in outcome.damage[0]


def without_checksums(path: Path) -> None:
    """A description as it was before there were any."""
    described = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in described.items() if k not in ("crc32", "files")}))


def test_a_series_cached_before_there_were_checksums_is_kept_until_it_is_to_be_verified(tmp_path):
    write_data(tmp_path)
    again(tmp_path, "float16", verify=False)
    without_checksums(tmp_path / FILES[2])
    assert again(tmp_path, "float16", verify=False).was_cached and open_cache(tmp_path).position_mm("a")[0] == 0
    outcome = again(tmp_path, "float16", verify=True)
    assert not outcome.was_cached and "cached before checksums were kept" in outcome.damage[0]
    assert again(tmp_path, "float16", verify=True).was_cached


REMEDY = "preprocess_data.py --verify makes it anew"


@pytest.mark.parametrize("spoil", [cut, lambda path: path.write_text("[]"), lambda path: path.write_text("{}"),
                                   lambda path: path.write_bytes(b"\xff\xfe"), flip])  # fmt: skip
def test_a_damaged_description_names_itself_when_it_is_read(copy, spoil):
    data_dir, _ = copy
    path = data_dir / FILES[2]
    spoil(path)
    with pytest.raises(ValueError, match=f"^{path}: .*{REMEDY}"):
        open_cache(data_dir).position_mm("a")


def read_all(data_dir: Path) -> bytes:
    cache = open_cache(data_dir)
    return cache.window("a", range(6)).tobytes() + b"".join(cache.vessels("a", k) for k in range(6))


@pytest.mark.parametrize("file", FILES[:2])
@pytest.mark.parametrize("left", [0, 7, 90, -1])
def test_a_cut_file_names_itself_when_it_is_read(copy, file, left):
    data_dir, storage = copy
    path = data_dir / file.format(ENDINGS[storage])
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=f"^{path}: .*{REMEDY}"):
        read_all(data_dir)


@pytest.mark.parametrize("sound", ["blosc2"], indirect=True)
def test_every_flipped_byte_of_a_compressed_file_names_it_when_that_slice_is_read(copy):
    data_dir, storage = copy
    draw = random.Random(0)
    for file in FILES[:2]:
        path = data_dir / file.format(ENDINGS[storage])
        whole = path.read_bytes()
        tail = range(len(whole) - 24 - 6 * 12, len(whole))  # footer and index
        for place in [*(draw.randrange(len(whole)) for _ in range(20)), *tail[:: 1 if file == FILES[0] else 5]]:
            flip(path, place)
            with pytest.raises(ValueError, match=f"^{path}: .*{REMEDY}"):
                read_all(data_dir)
            path.write_bytes(whole)


@pytest.mark.parametrize("sound", ["blosc2"], indirect=True)
def test_damage_to_one_compressed_slice_leaves_the_others(copy):
    data_dir, storage = copy
    sound = open_cache(data_dir).window("a", range(6))
    flip(data_dir / FILES[0].format(ENDINGS[storage]), 100)
    cache = open_cache(data_dir)
    assert np.array_equal(cache.window("a", range(1, 6)), sound[1:])
    with pytest.raises(ValueError, match="expected slice 0 as it was written"):
        cache.window("a", [0, 1])


@pytest.mark.parametrize("sound", ["float16"], indirect=True)
def test_every_flipped_byte_in_the_head_of_a_plain_file_is_survived(copy):
    data_dir, storage = copy
    path = data_dir / FILES[0].format(ENDINGS[storage])
    whole, n_named = path.read_bytes(), 0
    for place in range(0, 128, 2):
        flip(path, place)
        try:
            read_all(data_dir)
        except ValueError as error:
            assert str(path) in str(error)
            n_named += 1
        except IndexError as error:  # fewer slices
            assert "slices 0 to" in str(error)
        path.write_bytes(whole)
    assert n_named > 25


def test_the_script_says_how_many_were_damaged_and_makes_them_anew(tmp_path):
    write_data(tmp_path)
    for name in "bcd":
        shutil.copytree(tmp_path / "series" / "a", tmp_path / "series" / name)
    flags = ("--head_mm", "0", "--storage", "blosc2", "--workers", "1")
    assert "compressed to " in run(tmp_path, *flags).stdout
    before = cached_bytes(tmp_path)
    damage: dict[str, Callable[[Path], None]] = {"a.blosc2": flip, "b.blosc2": cut, "c.json": flip}
    for name, spoil in damage.items():
        spoil(tmp_path / "npy_sequence" / name)
    result = run(tmp_path, *flags, "--verify")
    assert result.returncode == 0, result.stderr
    assert "3 series were damaged in the cache, 3 of them made anew" in result.stdout
    assert all(f"  {tmp_path}/npy_sequence/{name}: expected " in result.stdout for name in damage)
    assert cached_bytes(tmp_path) == before
