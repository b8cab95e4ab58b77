"""A disk that is full, read-only or closed: the run stops and says where, keeps what is done, leaves no half file."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aneurysm.cache import preprocess
from aneurysm.cache.cache import open_cache
from aneurysm.cache.features import SeriesFeatures, write_features
from aneurysm.cache.jobs import run_jobs
from aneurysm.cache.preprocess import CANNOT_WRITE, Outcome, preprocess_series
from aneurysm.cache.storage import write_slices
from aneurysm.folds.manifest import write_manifest
from aneurysm.paths import CannotWrite, atomic_write, writing_to
from preprocess_data import PreprocessConfig
from preprocess_data import main as preprocess_data
from tests.cache.test_storage import SETTINGS, write_data
from tests.dicom_writer import write_stack
from tests.preprocess_script import head_ct, run
from tests.volume3d_series import entry
from volume3d.config import VolumeSettings
from volume3d.make_volume import make_volume
from volume3d.preprocess import PreprocessConfig as VolumeConfig
from volume3d.preprocess import main as preprocess_volumes

MB = 2**20
FLAGS = ("--head_mm", "0", "--workers", "1")


def mount(folder: Path, *options: str) -> None:
    if not shutil.which("mount"):
        pytest.skip("there is no mount command here")
    result = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"no file system can be mounted here: {result.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 20 MB of its own, with six series of 2.5 MB each in the cache and one that is broken."""
    root = tmp_path / "disk"
    root.mkdir()
    mount(root, "-t", "tmpfs", "-o", "size=20m", "tmpfs")
    for i in range(6):
        write_stack(root / "series" / f"s{i}", head_ct(5), spacing=(5.0, 3.0, 3.0))
    (root / "series" / "a-broken").mkdir()
    (root / "series" / "a-broken" / "a.dcm").write_bytes(b"no image" * 100)
    yield root
    subprocess.run(["umount", "-l", str(root)], check=True)


def fill(root: Path, left: int) -> Path:
    """A file that leaves so many bytes of the disk."""
    path = root / "others"
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(root).free - left)
    return path


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(small_disk, monkeypatch):
    (small_disk / "train_meta.csv").write_text("SeriesInstanceUID\na-broken\n")  # of an earlier run
    others = fill(small_disk, 8 * MB)
    monkeypatch.setattr("aneurysm.cache.preprocess_run.require_disk", lambda *_: None)  # others have filled it since
    config = PreprocessConfig(small_disk, workers=1, slices=False, head_mm=0.0)
    with pytest.raises(CannotWrite) as output:
        preprocess_data(config)
    begin = f"{small_disk}/npy_sequence: expected to write here, found: No space left on device; make room on this disk"
    assert str(output.value) == f"{begin} and run this again: what is done stays; 3 of 7 series are done"
    left = {path.name for path in (small_disk / "npy_sequence").iterdir()}
    assert left == {f"s{i}.{ending}" for i in range(3) for ending in ("npy", "json")}  # 2.5 MB each; no half file
    errors = pd.read_csv(small_disk / "preprocess_errors.csv")
    assert errors.SeriesInstanceUID.tolist() == ["a-broken"]
    assert pd.read_csv(small_disk / "train_meta.csv").SeriesInstanceUID.tolist() == ["s0", "s1", "s2"]
    assert set(pd.read_parquet(small_disk / "slices.parquet").SeriesInstanceUID) == {"s0", "s1", "s2"}
    others.unlink()
    after = run(small_disk, *FLAGS)
    assert after.returncode == 0 and "6 series in" in after.stdout and "(3 cached before), 1 errors" in after.stdout
    assert np.array_equal(open_cache(small_disk).window("s5", range(5)), open_cache(small_disk).window("s0", range(5)))


def test_after_a_full_disk_the_table_names_series_of_earlier_runs_too(small_disk, monkeypatch):
    assert preprocess_series(small_disk, "s5", SETTINGS, slices=False).kind == ""
    fill(small_disk, 6 * MB)
    monkeypatch.setattr("aneurysm.cache.preprocess_run.require_disk", lambda *_: None)
    with pytest.raises(CannotWrite, match="2 of 7 series are done"):
        preprocess_data(PreprocessConfig(small_disk, workers=1, slices=False, head_mm=0.0))
    meta = pd.read_csv(small_disk / "train_meta.csv")
    assert meta.SeriesInstanceUID.tolist() == ["s0", "s1", "s5"] and (meta.n_slices == 5).all()


def test_a_read_only_disk_is_said_before_anything_is_decoded(small_disk):
    mount(small_disk, "-o", "remount,ro")
    write = [preprocess_series(small_disk, "s0", SETTINGS, slices=False)]
    write.append(make_volume(small_disk, entry("s0"), VolumeSettings()))
    assert [outcome.kind for outcome in write] == [CANNOT_WRITE] * 2
    assert all("Read-only file system; make it writable" in outcome.message for outcome in write)
    result = run(small_disk, *FLAGS)
    assert result.returncode == 1 and f"error: {small_disk}: expected to write here, found: Read-only" in result.stderr
    mount(small_disk, "-o", "remount,rw")


@pytest.fixture
def file_limit():
    """No file may grow beyond a size; a write past it fails, as on a full disk, in this process only."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda n_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("slices", "storage"), [(False, "float16"), (True, "float16"), (False, "blosc2")])
def test_a_series_that_does_not_fit_leaves_nothing(tmp_path, file_limit, slices, storage):
    write_data(tmp_path)
    file_limit(300_000)  # less than a slice, more than some compressed ones
    outcome = preprocess_series(tmp_path, "a", SETTINGS, slices=slices, storage=storage)
    file_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    folder = tmp_path / ("npy_slice" if slices else "npy_sequence")
    assert (outcome.kind, outcome.message[: len(str(tmp_path))]) == (CANNOT_WRITE, str(tmp_path)), outcome
    assert "File too large; make room" in outcome.message
    assert not files(folder) and not files(tmp_path / "npy_sequence")


def test_a_volume_that_does_not_fit_leaves_nothing(tmp_path, file_limit):
    write_stack(tmp_path / "series" / "a", head_ct(6), spacing=(2.0, 3.0, 3.0))
    file_limit(50_000)
    outcome = make_volume(tmp_path, entry("a"), VolumeSettings())
    file_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert outcome.kind == CANNOT_WRITE and f"{tmp_path}/npy_volume: expected to write" in outcome.message
    assert not files(tmp_path / "npy_volume")


def test_features_that_do_not_fit_leave_nothing_and_name_their_folder(tmp_path, file_limit):
    n_of = {"logits": 14, "heatmap_max": 14, "peak_x": 14, "peak_y": 14, "features": 2000, "peak_features": 3}
    arrays = {name: np.zeros((1, 40, n), np.float16) for name, n in n_of.items()}
    along = np.arange(40, dtype=np.float32)
    features = SeriesFeatures(along.astype(np.int32), along, along, **arrays, views=("original",))
    file_limit(50_000)
    with pytest.raises(CannotWrite, match=f"^{tmp_path}/features: expected to write here, found: File too large"):
        write_features(tmp_path / "features" / "a.safetensors", features, "")
    file_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert not files(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_each_way_of_a_disk_to_refuse_is_an_outcome_of_its_own(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    write_data(tmp_path)
    monkeypatch.setattr(preprocess, "write_slices", refuse)
    outcome = preprocess_series(tmp_path, "a", SETTINGS, slices=False)
    assert outcome.kind == CANNOT_WRITE and os.strerror(code) in outcome.message


@pytest.mark.parametrize("slices", [False, True])
def test_a_series_whose_vessel_mask_does_not_fit_leaves_nothing(tmp_path, monkeypatch, slices):
    def write_one(path: Path, *how) -> int:
        if how[1] is np.uint8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_slices(path, *how)

    write_data(tmp_path)
    monkeypatch.setattr(preprocess, "write_slices", write_one)
    outcome = preprocess_series(tmp_path, "a", SETTINGS, slices=slices)
    assert outcome.kind == CANNOT_WRITE and outcome.message.startswith(f"{tmp_path}/npy_vessels: ")
    assert not any(files(tmp_path / folder) for folder in ("npy_sequence", "npy_vessels", "npy_slice"))


def test_what_cannot_be_read_is_not_taken_for_a_disk_that_refuses(tmp_path):
    series = tmp_path / "series" / "1.dcm"
    for code, name in ((errno.EACCES, series), (errno.EIO, series), (errno.ENOENT, series)):
        with pytest.raises(OSError, match="1.dcm"), writing_to(tmp_path / "npy_sequence"):
            raise OSError(code, os.strerror(code), str(name))
    with (
        pytest.raises(CannotWrite, match="Permission denied"),
        atomic_write(tmp_path / "npy_sequence" / "a") as beside,
    ):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(beside))


def outcome_of_number(number: int) -> Outcome:
    if number == 3:
        return Outcome(str(number), CANNOT_WRITE, "/data: full")
    return Outcome(str(number), "unreadable series" if number == 1 else "", "broken")


def test_series_that_are_broken_themselves_are_written_down_before_the_end(tmp_path):
    kept = tmp_path / ".a.npy.elsewhere.1.part"
    kept.write_text("of a killed run")
    job = (outcome_of_number, range(100), 1, str, "", [tmp_path], tmp_path / "errors.csv")
    with pytest.raises(CannotWrite, match=r"^/data: full; \d of 100 series are done"):
        run_jobs(*job)
    assert pd.read_csv(tmp_path / "errors.csv", dtype=str).to_dict("records") == [
        {"SeriesInstanceUID": "1", "kind": "unreadable series", "message": "broken"}
    ]
    assert not kept.exists()


def test_volumes_stop_at_a_full_disk_too(small_disk, monkeypatch):
    write_manifest(small_disk / "manifest.jsonl", [entry(f"s{i}") for i in range(6)])
    fill(small_disk, MB)  # a volume of 8 slices of 128 x 128 takes a quarter of it
    monkeypatch.setattr("volume3d.preprocess.require_disk", lambda *_: None)
    with pytest.raises(CannotWrite, match="npy_volume: expected .* make room .* 3 of 6 series are done"):
        preprocess_volumes(VolumeConfig(data_dir=small_disk, workers=1))
    whole = {f"s{i}.{ending}" for i in range(3) for ending in ("npy", "json")}
    assert {path.name for path in (small_disk / "npy_volume").iterdir()} == whole
