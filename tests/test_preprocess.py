"""preprocess_data.py: every series ends in the cache or among the errors, with the same bytes however often killed."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dask import distributed
from pydicom.uid import RLELossless

from aneurysm.data.cache import open_cache
from aneurysm.data.preprocess import CacheSettings, preprocess_series
from aneurysm.labels import LOCATIONS
from tests.dicom_writer import CORONAL, write_enhanced, write_image, write_stack

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(240)


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


def start(data_dir: Path) -> subprocess.Popen:
    command = [sys.executable, "preprocess_data.py", "--data_dir", str(data_dir), "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)


def digest(data_dir: Path) -> dict[str, str]:
    """Every file that preprocessing made, hidden ones too, and the hash of its bytes."""
    made = [f for f in data_dir.rglob("*") if f.is_file() and "series" not in f.relative_to(data_dir).parts[:1]]
    return {str(f.relative_to(data_dir)): hashlib.sha256(f.read_bytes()).hexdigest() for f in made}


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
    result = run(data_dir, "--head_mm", "0")
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
    assert "4 were there before" in run(done, "--head_mm", "0").stdout
    assert digest(done) == before
    assert {f: f.stat().st_mtime_ns for f in (done / "npy_sequence").iterdir()} == times


def test_a_dask_cluster_makes_the_same_bytes(done, tmp_path):
    copy = shutil.copytree(done, tmp_path / "data")
    for made in ("npy_sequence", "npy_slice"):
        shutil.rmtree(copy / made)
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        result = run(copy, "--head_mm", "0", "--dask", cluster.scheduler_address)
    assert result.returncode == 0, result.stderr
    same = digest(done)
    assert {k: v for k, v in digest(copy).items() if k.endswith("npy")} == {
        k: v for k, v in same.items() if k.endswith("npy")
    }


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


def test_a_disk_too_small_is_said_before_the_work_begins(data_dir, monkeypatch):
    from aneurysm.data import disk

    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(ValueError, match="needs about 1000000.0 GB"):
        disk.require_disk(data_dir, int(1e15), (), "")


def test_the_estimate_counts_slices_of_the_kept_head(tmp_path):
    from aneurysm.data.disk import estimate_bytes
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


@pytest.mark.parametrize("wrong", [(-1, 0, 600), (np.nan, 0, 600), (180, 600, 600), (180, 600, 0)])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected head_mm of at least 0 and window_low_hu below window_high_hu"):
        CacheSettings(*wrong)


def test_without_train_csv_every_folder_is_taken(tmp_path):
    for uid in "ab":
        write_image(tmp_path / "series" / uid / "1.dcm", head_ct(1)[0], PixelSpacing=[3, 3])
    assert run(tmp_path, "--slices", "false").returncode == 0
    assert pd.read_csv(tmp_path / "train_meta.csv").SeriesInstanceUID.tolist() == ["a", "b"]


def test_a_run_killed_three_times_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    for i in range(30):
        write_stack(tmp_path / "series" / f"s{i:02d}", head_ct(10 + i), spacing=(4.0, 3.0, 3.0))
    undisturbed = tmp_path.with_name(f"{tmp_path.name}_undisturbed")
    shutil.copytree(tmp_path, undisturbed, copy_function=shutil.copy2)
    assert run(undisturbed).returncode == 0
    draw = random.Random(7)
    for kill in range(3):
        process = start(tmp_path)
        wait_for_files(tmp_path / "npy_sequence", 2 + 8 * kill + draw.randrange(6), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kill_orphans(tmp_path)
    n_left = 30 - len(list((tmp_path / "npy_sequence").glob("*.json")))
    assert n_left > 0, "the kills came too late to test anything"
    assert run(tmp_path).returncode == 0
    assert digest(tmp_path) == digest(undisturbed)
    assert not list(tmp_path.rglob("*.part"))


def wait_for_files(folder: Path, n_files: int, process: subprocess.Popen) -> None:
    while process.poll() is None and len(list(folder.glob("*.json"))) < n_files:
        time.sleep(0.002)


def kill_orphans(data_dir: Path) -> None:
    """Waits until no worker of a killed run writes any more (loky's workers end when their parent has gone)."""
    last = None
    while last != (last := sorted(data_dir.rglob(".*.part"))) or last is None:
        time.sleep(0.2)


def test_memory_does_not_grow_with_the_number_of_slices(tmp_path):
    code = (
        "import sys; from pathlib import Path; from aneurysm.data.preprocess import *;"
        "o = preprocess_series(Path(sys.argv[1]), 'a', CacheSettings(head_mm=0), False); assert not o.kind, o;"
        # not getrusage: before exec, a new process has the peak of the one that it was forked from
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    peak_mb = []
    for n_slices in (50, 400):
        folder = tmp_path / str(n_slices)
        write_stack(folder / "series" / "a", head_ct(n_slices, 256), spacing=(0.5, 1.0, 1.0))
        result = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True)
        peak_mb.append(float(result.stdout) / 1024)
    assert peak_mb[1] < peak_mb[0] + 50 and peak_mb[1] < 1500
