"""Reading a few slices of a cached series: from its file or from slice files, and what is said where it is damaged."""

import json
import pickle
from dataclasses import asdict

import numpy as np
import pytest

from aneurysm.cache.cache import open_cache
from aneurysm.cache.config import CacheSettings
from tests.stage1_cache import one_series, write_series

SLICES = np.random.default_rng(0).random((6, 512, 512)).astype(np.float16)


@pytest.fixture(scope="module", params=["series file", "slice files"])
def cache(request, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    found = one_series(data_dir, SLICES, np.array([1.0, 2.0, 4.0, 5.0, 7.5, 8.0]))
    if request.param == "slice files":
        (data_dir / "npy_slice" / "s").mkdir(parents=True)
        for i, image in enumerate(SLICES):
            np.save(data_dir / "npy_slice" / "s" / f"{i:04d}.npy", image)
        (data_dir / "npy_sequence" / "s.npy").unlink()
    return found


@pytest.mark.parametrize("indices", [[2, 3, 4], [0, 2, 5], [5, 1], [3, 3, 3], [4], [0, 0, 1], []])
def test_slices_come_in_the_order_asked_for(cache, indices):
    np.testing.assert_array_equal(cache.window("s", indices), SLICES[indices])


def test_number_and_positions_of_slices_are_known(cache):
    assert cache.n_slices("s") == 6 and cache.series_uids() == ["s"]
    assert cache.position_mm("s").tolist() == [1.0, 2.0, 4.0, 5.0, 7.5, 8.0]
    assert cache.meta("s")["plane"] == "axial"


@pytest.mark.parametrize("indices", [[-1], [6], [0, 6]])
def test_a_slice_that_does_not_exist_is_an_index_error(cache, indices):
    with pytest.raises(IndexError, match="series s: expected slices 0 to 5, found"):
        cache.window("s", indices)


def test_a_cache_sent_to_another_process_reads_the_same(cache):
    cache.n_slices("s")
    sent = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(sent.window("s", [1, 4]), SLICES[[1, 4]])


def test_a_series_that_is_missing_cut_short_or_of_another_kind_is_named(tmp_path):
    one_series(tmp_path, SLICES)
    path = tmp_path / "npy_sequence" / "s.npy"
    for predict in ("n_slices", "position_mm", "meta"):
        with pytest.raises(ValueError, match="gone.*no such series|gone.json: not there"):
            getattr(open_cache(tmp_path), predict)("gone")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="s.npy: expected 6 slices, the file is too short"):
        open_cache(tmp_path).window("s", [4, 5])
    np.save(path, SLICES.astype(np.float32))
    with pytest.raises(ValueError, match=r"s.npy: expected \(slices, 512, 512\) float16, found .* float32"):
        open_cache(tmp_path).window("s", [0])


def test_the_settings_of_the_cache_are_told_and_must_be_the_same_for_all_series(tmp_path):
    """A series that was cached before settings were kept says none, and contradicts nothing."""
    kept = {"a": CacheSettings(120.0), "b": CacheSettings(120.0), "c": CacheSettings(150.0), "old": None}
    for uid, settings in kept.items():
        write_series(tmp_path, uid, SLICES[:1], [0.0], "axial")
        path = tmp_path / "npy_sequence" / f"{uid}.json"
        output = {} if settings is None else {"settings": asdict(settings)}
        path.write_text(json.dumps(json.loads(path.read_text()) | output))
    cache = open_cache(tmp_path)
    assert cache.settings(["a", "b", "old"]) == CacheSettings(120.0, 0.0, 600.0)
    assert cache.settings(["old"]) is None
    with pytest.raises(ValueError, match="npy_sequence: expected one setting for all series, found .*120.*150"):
        cache.settings(["a", "c"])
