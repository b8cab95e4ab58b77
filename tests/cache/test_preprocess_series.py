"""One series into the cache: made anew when anything about it changes, with its files, warnings and memory."""

import json
import os

import numpy as np
import pytest
from pydicom.uid import RLELossless

from aneurysm.cache.cache import open_cache
from aneurysm.cache.preprocess import CacheSettings, preprocess_series
from tests.dicom_writer import write_stack
from tests.peak_memory import peak_mb_of_few_and_many_slices
from tests.preprocess_script import head_ct


def test_a_changed_file_or_setting_makes_a_series_anew(tmp_path):
    write_stack(tmp_path / "series" / "a", head_ct(4), spacing=(5.0, 3.0, 3.0))
    settings = CacheSettings(head_mm=0)
    again = [preprocess_series(tmp_path, "a", settings, slices=False).was_cached for _ in range(2)]
    other = preprocess_series(tmp_path, "a", CacheSettings(head_mm=0, window_high_hu=500.0), slices=False)
    file = next((tmp_path / "series" / "a").iterdir())
    os.utime(file, ns=(1, 1))
    touched = preprocess_series(tmp_path, "a", settings, slices=False)
    assert again == [False, True] and not other.was_cached and not touched.was_cached


def test_slice_files_are_made_when_they_are_asked_for_later(tmp_path):
    write_stack(tmp_path / "series" / "a", head_ct(4), spacing=(5.0, 3.0, 3.0))
    preprocess_series(tmp_path, "a", CacheSettings(), slices=False)
    assert not (tmp_path / "npy_slice").exists()
    preprocess_series(tmp_path, "a", CacheSettings(), slices=True)
    assert len(list((tmp_path / "npy_slice" / "a").glob("*.npy"))) == 4


def test_slice_files_of_other_settings_do_not_stay_beside_a_series_that_is_made_anew_without_them(tmp_path):
    write_stack(tmp_path / "series" / "a", head_ct(4), spacing=(5.0, 3.0, 3.0))
    slices, window = tmp_path / "npy_slice" / "a", CacheSettings(head_mm=0, window_high_hu=400.0)
    preprocess_series(tmp_path, "a", CacheSettings(head_mm=0), slices=True)
    preprocess_series(tmp_path, "a", CacheSettings(head_mm=0), slices=False, storage="blosc2")
    assert np.load(slices / "0000.npy")[256, 256] == pytest.approx(40 / 600, abs=1e-3)  # the same numbers in both forms
    preprocess_series(tmp_path, "a", window, slices=False)
    assert not slices.exists()
    preprocess_series(tmp_path, "a", window, slices=True)
    assert np.load(slices / "0000.npy")[256, 256] == pytest.approx(40 / 400, abs=1e-3)


def test_a_series_with_one_cut_file_is_cached_with_a_warning_that_names_it(tmp_path):
    write_stack(tmp_path / "series" / "a", head_ct(6), spacing=(5.0, 3.0, 3.0), syntax=RLELossless)
    cut = tmp_path / "series" / "a" / "898.dcm"
    cut.write_bytes(cut.read_bytes()[:-600])
    assert preprocess_series(tmp_path, "a", CacheSettings(head_mm=0), slices=False).kind == ""
    described = json.loads((tmp_path / "npy_sequence" / "a.json").read_text())
    assert described["meta"]["n_slices"] == 6 and "898.dcm" in described["meta"]["warnings"]
    assert not open_cache(tmp_path).window("a", [2]).any()


@pytest.mark.parametrize("wrong", [(-1, 0, 600), (np.nan, 0, 600), (180, 600, 600), (180, 600, 0)])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected head_mm of at least 0 and window_low_hu below window_high_hu"):
        CacheSettings(*wrong)


def test_memory_does_not_grow_with_the_number_of_slices(tmp_path):
    code = (
        "import sys; from pathlib import Path; from aneurysm.cache.preprocess import *;"
        "o = preprocess_series(Path(sys.argv[1]), 'a', CacheSettings(head_mm=0), False); assert not o.kind, o;"
    )
    peak_mb = peak_mb_of_few_and_many_slices(code, tmp_path)
    assert peak_mb[1] < peak_mb[0] + 50 and peak_mb[1] < 1500
