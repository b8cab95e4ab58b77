"""preprocess_data.py: every series ends in the cache or among the errors, and the tables tell which."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dask import distributed
from pydicom.uid import RLELossless

from aneurysm.cache.cache import open_cache
from aneurysm.cache.preprocess import CacheSettings
from aneurysm.labels import LOCATIONS
from tests.dicom_writer import CORONAL, write_enhanced, write_image, write_stack
from tests.preprocess_script import digest, head_ct, run

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """Six series of different kinds, one of them broken, and a row of train.csv without a folder."""
    root = tmp_path_factory.mktemp("data")
    spacing = (2.0, 3.0, 3.0)
    write_stack(root / "series" / "plain", head_ct(40), spacing=spacing)
    write_stack(root / "series" / "rle", head_ct(30), spacing=spacing, syntax=RLELossless)
    write_stack(root / "series" / "coronal", head_ct(20), CORONAL, spacing)
    write_enhanced(root / "series" / "enhanced" / "e.dcm", head_ct(12) + np.int16(1000), spacing=(5.0, 3.0, 3.0))
    (root / "series" / "broken").mkdir()
    (root / "series" / "broken" / "a.dcm").write_bytes(b"no image" * 100)
    write_stack(root / "series" / "extra", head_ct(3), spacing=spacing)
    table = pd.DataFrame({"SeriesInstanceUID": ["plain", "rle", "coronal", "enhanced", "broken", "absent"]})
    table["Modality"] = ["CTA", "CTA", "CTA", "MRA", "CTA", "MRA"]
    table[list(LOCATIONS)] = 0
    table.to_csv(root / "train.csv", index=False)
    return root


@pytest.fixture(scope="module")
def done(data_dir) -> Path:
    """The same after an undisturbed run."""
    result = run(data_dir, "--head_mm", "0", "--slices")
    assert result.returncode == 0, result.stderr
    assert "1 folders in" in result.stdout and "extra" in result.stdout  # the folder that train.csv does not name
    return data_dir


def test_every_row_of_train_csv_is_cached_or_an_error_that_says_why(done):
    meta, errors = pd.read_csv(done / "train_meta.csv"), pd.read_csv(done / "preprocess_errors.csv")
    assert meta.SeriesInstanceUID.tolist() == ["plain", "rle", "coronal", "enhanced"]
    assert dict(zip(errors.SeriesInstanceUID, errors.kind, strict=True)) == {
        "broken": "unreadable series",
        "absent": "missing folder",
    }
    assert "broken" in errors.message[0] and "not a readable DICOM file" in errors.message[0]


def test_the_modality_of_train_csv_wins_over_the_header(done):
    meta = pd.read_csv(done / "train_meta.csv").set_index("SeriesInstanceUID")
    assert meta.series_type.to_dict() == {"plain": "CTA", "rle": "CTA", "coronal": "CTA", "enhanced": "MRA"}


def test_the_cache_holds_windowed_slices_upward_in_float16(done):
    cache = open_cache(done)
    assert cache.series_uids() == ["coronal", "enhanced", "plain", "rle"]
    window = cache.window("plain", [0, 20, 39])
    assert window.shape == (3, 512, 512) and window.dtype == np.float16
    # Soft tissue of 40 HU in a window from 0 to 600 HU; air below it.
    assert window[1, 256, 256] == pytest.approx(40 / 600, abs=5e-4) and window[1, 2, 2] == 0
    assert cache.position_mm("plain").tolist() == [2.0 * i for i in range(40)]
    assert cache.settings(cache.series_uids()) == CacheSettings(head_mm=0.0)


def test_the_marked_pixel_lies_where_the_mapping_says(done):
    cache = open_cache(done)
    for uid, slice_index in (("plain", 17), ("rle", 5)):
        sop_uid = f"1.2.826.0.1.3680043.8.498.7.{slice_index + 1}"
        x, y, k = cache.mapping(uid).to_cache(16 + slice_index, 32, sop_uid)
        assert k == slice_index
        row, col = np.unravel_index(cache.window(uid, [k])[0].argmax(), (512, 512))
        assert abs(row - y) <= 5 and abs(col - x) <= 5  # an original pixel is ten wide here


def test_series_files_and_slice_files_hold_the_same(done):
    cache = open_cache(done)
    for uid in cache.series_uids():
        for i in range(cache.n_slices(uid)):
            single = np.load(done / "npy_slice" / uid / f"{i:04d}.npy")
            assert np.array_equal(single, cache.window(uid, [i])[0])


def test_slices_parquet_has_a_row_for_each_cached_slice_with_its_image(done):
    slices = pd.read_parquet(done / "slices.parquet")
    counts = slices.groupby("SeriesInstanceUID").size().to_dict()
    # The coronal series, re-sliced to axial, has as many slices as its images have rows.
    assert counts == {"plain": 40, "rle": 30, "coronal": 64, "enhanced": 12}
    plain = slices[slices.SeriesInstanceUID == "plain"]
    assert plain.SOPInstanceUID.tolist() == [f"1.2.826.0.1.3680043.8.498.7.{i + 1}" for i in range(40)]
    assert slices[slices.SeriesInstanceUID == "enhanced"].frame.tolist() == list(range(12))
    assert slices[slices.SeriesInstanceUID == "coronal"].SOPInstanceUID.isna().all()


def test_a_second_run_does_nothing_anew_and_changes_no_byte(done):
    before = digest(done)
    times = {f: f.stat().st_mtime_ns for f in (done / "npy_sequence").iterdir()}
    assert "4 cached before" in run(done, "--head_mm", "0", "--slices").stdout
    assert digest(done) == before
    assert {f: f.stat().st_mtime_ns for f in (done / "npy_sequence").iterdir()} == times


def test_a_dask_cluster_makes_the_same_bytes(done, tmp_path):
    copy = shutil.copytree(done, tmp_path / "data")
    for made in ("npy_sequence", "npy_slice"):
        shutil.rmtree(copy / made)
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        result = run(copy, "--head_mm", "0", "--slices", "--dask", cluster.scheduler_address)
    assert result.returncode == 0, result.stderr
    same = digest(done)
    assert {k: v for k, v in digest(copy).items() if k.endswith("npy")} == {
        k: v for k, v in same.items() if k.endswith("npy")
    }


def test_a_disk_too_small_is_said_before_the_work_begins(data_dir, monkeypatch):
    from aneurysm.cache import disk

    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(ValueError, match="needs about 1000000.0 GB"):
        disk.require_disk(data_dir, int(1e15), (), "")


def test_the_estimate_counts_slices_of_the_kept_head(tmp_path):
    from aneurysm.cache.disk import estimate_bytes
    from aneurysm.paths import DataPaths

    write_stack(tmp_path / "series" / "a", head_ct(40), spacing=(2.0, 3.0, 3.0))
    slice_bytes = 512 * 512 * 2
    assert estimate_bytes(DataPaths(tmp_path), ["a"], head_mm=0, copies=1) == 40 * slice_bytes
    assert estimate_bytes(DataPaths(tmp_path), ["a"], head_mm=39, copies=2) == 2 * 20 * slice_bytes


@pytest.mark.parametrize("content", ["Series\n1\n", "SeriesInstanceUID\na\na\n"])
def test_a_train_csv_without_or_with_repeated_uids_is_refused_by_name(tmp_path, content):
    (tmp_path / "train.csv").write_text(content)
    result = run(tmp_path)
    assert result.returncode == 1 and "train.csv: expected" in result.stderr and "Traceback" not in result.stderr


def test_without_train_csv_every_folder_is_taken(tmp_path):
    for uid in "ab":
        write_image(tmp_path / "series" / uid / "1.dcm", head_ct(1)[0], PixelSpacing=[3, 3])
    assert run(tmp_path).returncode == 0
    assert pd.read_csv(tmp_path / "train_meta.csv").SeriesInstanceUID.tolist() == ["a", "b"]


def test_slice_files_are_written_only_where_they_are_asked_for(tmp_path):
    write_image(tmp_path / "series" / "a" / "1.dcm", head_ct(1)[0], PixelSpacing=[3, 3])
    assert run(tmp_path).returncode == 0 and not (tmp_path / "npy_slice").exists()
    assert run(tmp_path, "--slices").returncode == 0
    assert [path.name for path in (tmp_path / "npy_slice" / "a").iterdir()] == ["0000.npy"]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2,3\n4,5,6,7,8\n", b"\xff\xfe\x00\x81"])
def test_a_train_csv_that_is_no_table_is_refused_by_name(tmp_path, content):
    (tmp_path / "train.csv").write_bytes(content)
    result = run(tmp_path)
    assert result.returncode == 1 and result.stderr.startswith(f"error: {tmp_path}/train.csv: expected a CSV table")
