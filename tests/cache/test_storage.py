"""The two forms of a file of cached slices: the same bits back, from any thread, in memory that does not grow."""

from __future__ import annotations

import multiprocessing
import tracemalloc
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import blosc2
import numpy as np
import pytest

from aneurysm.cache.cache import open_cache
from aneurysm.cache.disk import estimate_bytes, stored_share
from aneurysm.cache.preprocess import CacheSettings, preprocess_series
from aneurysm.cache.storage import ENDINGS, find_slices_file, open_slices, write_npy, write_slices
from aneurysm.paths import DataPaths
from tests.dicom_writer import AXIAL, write_stack
from tests.mask_writer import grid_affine, numbered_slices, save_mask

SHAPE, SPACING = (6, 32, 32), (5.0, 6.0, 6.0)
SETTINGS = CacheSettings(head_mm=0)
each_storage = pytest.mark.parametrize("storage", ENDINGS)


def grainy(n_slices: int, dtype: type = np.float16) -> np.ndarray:
    """(n_slices, 512, 512) in [0, 1], or 0 to 13: half empty, half noise."""
    images = np.zeros((n_slices, 512, 512), dtype)
    noise = np.random.default_rng(0).random((n_slices, 256, 512))
    images[:, :256] = noise if dtype == np.float16 else 14 * noise
    return images


def write_data(data_dir: Path) -> None:
    """One axial CT of six slices, `a`, and its vessel mask."""
    noise = np.random.default_rng(1).integers(0, 600, SHAPE).astype(np.int16)
    write_stack(data_dir / "series" / "a", noise, AXIAL, SPACING)
    mask = data_dir / "segmentations" / "a" / "a_cowseg.nii"
    save_mask(mask, numbered_slices(SHAPE[::-1]), grid_affine(AXIAL, SPACING))


@each_storage
@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_any_run_of_slices_comes_back_bit_for_bit(tmp_path, storage, dtype):
    images, path = grainy(5, dtype), tmp_path / f"a{ENDINGS[storage]}"
    if dtype == np.float16:
        images.view(np.uint16)[1, 0, :4] = [0x8000, 0x0001, 0x7E01, 0xFC00]  # -0, the smallest, a NaN, -infinity
    crc32 = write_slices(path, storage, dtype, 5, iter(images))
    assert crc32 == zlib.crc32(path.read_bytes()) and find_slices_file(tmp_path, "a") == path
    stored = open_slices(path, dtype)
    for first, stop in ((0, 5), (1, 4), (4, 5)):
        out = np.full((stop - first, 512, 512), 7, dtype)
        stored.read(first, out)
        assert out.tobytes() == images[first:stop].tobytes()


def test_the_plain_form_is_numpys_own(tmp_path):
    images = grainy(3)
    write_slices(tmp_path / "a.npy", "float16", np.float16, 3, images)
    write_npy(tmp_path / "b.npy", images[1].T)
    assert np.array_equal(np.load(tmp_path / "a.npy"), images) and np.array_equal(
        np.load(tmp_path / "b.npy"), images[1].T
    )


def test_the_compressed_form_begins_with_chunks_of_the_library(tmp_path):
    images, path = grainy(3), tmp_path / "a.blosc2"
    write_slices(path, "blosc2", np.float16, 3, images)
    begin = path.read_bytes()
    n_bytes, n_packed, _ = blosc2.get_cbuffer_sizes(begin[:32])
    assert n_bytes == 512 * 512 * 2 and blosc2.decompress2(begin[:n_packed]) == images[0].tobytes()
    assert path.stat().st_size < 0.6 * images.nbytes  # half of it is zero, the other half has bits to spare


@each_storage
def test_memory_does_not_grow_with_the_number_of_slices_written(tmp_path, storage):
    image, peaks = grainy(1)[0], []
    write_slices(tmp_path / "first", storage, np.float16, 1, [image])  # libraries are loaded
    for n_slices in (5, 60):
        tracemalloc.start()
        write_slices(tmp_path / "a", storage, np.float16, n_slices, (image for _ in range(n_slices)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000  # a slice is 524288 bytes


def one_window(data_dir: Path, first: int) -> bytes:
    return open_cache(data_dir).window("a", [first, first + 1]).tobytes()


@each_storage
def test_many_threads_and_processes_read_the_same(tmp_path, storage):
    write_data(tmp_path)
    assert preprocess_series(tmp_path, "a", SETTINGS, slices=False, storage=storage).kind == ""
    cache, firsts = open_cache(tmp_path), [0, 1, 2, 3, 4] * 8
    alone = [cache.window("a", [k, k + 1]).tobytes() for k in firsts]
    assert len(set(alone)) == 5
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda k: cache.window("a", [k, k + 1]).tobytes(), firsts)) == alone
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as processes:
        assert list(processes.map(one_window, [tmp_path] * 5, range(5))) == alone[:5]
    assert blosc2.nthreads == 1 or storage == "float16"


def test_another_storage_makes_a_series_anew_and_leaves_no_other_form(tmp_path):
    write_data(tmp_path)
    values, facts = [], []
    for storage, was_cached in (("float16", False), ("blosc2", False), ("blosc2", True), ("float16", False)):
        outcome = preprocess_series(tmp_path, "a", SETTINGS, slices=False, storage=storage)
        assert (outcome.kind, outcome.was_cached, outcome.damage) == ("", was_cached, ())
        names = {f"a{ENDINGS[storage]}"}
        assert {path.name for path in (tmp_path / "npy_sequence").iterdir()} == names | {"a.json"}
        assert {path.name for path in (tmp_path / "npy_vessels").iterdir()} == names
        cache = open_cache(tmp_path)
        assert cache.series_uids() == ["a"] and cache.n_slices("a") == 6
        values.append(cache.window("a", range(6)).tobytes() + b"".join(cache.vessels("a", k) for k in range(6)))
        facts.append((cache.fingerprint("a"), cache.settings(["a"])))
    assert len(set(values)) == 1 and len(set(facts)) == 1  # features that were made of them are up to date


def test_slice_files_stay_as_they_are(tmp_path):
    write_data(tmp_path)
    preprocess_series(tmp_path, "a", SETTINGS, slices=True, storage="blosc2")
    assert np.array_equal(np.load(tmp_path / "npy_slice" / "a" / "0003.npy"), open_cache(tmp_path).window("a", [3])[0])


def test_the_disk_needed_is_estimated_by_compressing_a_few_slices(tmp_path):
    write_data(tmp_path)
    paths = DataPaths(tmp_path)
    preprocess_series(tmp_path, "a", SETTINGS, slices=False, storage="blosc2")
    share = stored_share(paths, ["a"], SETTINGS, "blosc2")
    real = (paths.npy_sequence / "a.blosc2").stat().st_size
    assert share * 6 * 512 * 512 * 2 == pytest.approx(real, rel=0.1) and share < 0.9
    assert estimate_bytes(paths, ["a"], 0, share) == pytest.approx(real + 6 * 512 * 512, rel=0.1)
    assert stored_share(paths, ["a"], SETTINGS, "float16") == 1
    assert stored_share(paths, ["gone"], SETTINGS, "blosc2") == 1 and stored_share(paths, [], SETTINGS, "blosc2") == 1
