"""volume3d.preprocess: every series becomes a volume or an error, with the same bytes however often it was killed."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aneurysm.folds.manifest import write_manifest
from aneurysm.labels import LOCATIONS
from aneurysm.phantom.config import PhantomConfig
from aneurysm.phantom.dataset import make_dataset
from tests.dicom_writer import AXIAL, write_stack
from tests.mask_writer import grid_affine, save_mask
from tests.peak_memory import peak_mb_of_few_and_many_slices
from tests.preprocess_script import head_ct, wait_for_files, wait_for_orphans
from tests.volume3d_series import entry, made
from volume3d.config import VolumeSettings
from volume3d.make_volume import make_volume
from volume3d.preprocess import estimate_bytes
from volume3d.split import read_split
from volume3d.volume import read_geometry, read_vessels, read_volume

ROOT = Path(__file__).parents[2]
SPACING = (2.0, 3.0, 3.0)
pytestmark = pytest.mark.timeout(240)


def run(script: str, data_dir: Path, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"volume3d.{script}", "--data_dir", str(data_dir), *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def digest(data_dir: Path) -> dict[str, str]:
    """Every file that preprocessing made, hidden ones too, and the hash of its bytes."""
    made = [*(data_dir / "npy_volume").iterdir(), data_dir / "volume_errors.csv"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in made}


def test_the_three_scripts_on_eight_phantoms(tmp_path):
    make_dataset(PhantomConfig(str(tmp_path), n_series=8, seed=3, size=32, balanced=True, workers=2))
    assert run("build_manifest", tmp_path, "--workers", "2").returncode == 0
    assert run("split_patients", tmp_path).returncode == 0
    result = run("preprocess", tmp_path, "--workers", "2", "--z_mm", "4", "--size", "64", "--dtype", "float32")
    assert result.returncode == 0 and "8 series in" in result.stdout, result.stderr
    assert set(read_split(tmp_path / "volume_split.csv")) == {path.name for path in (tmp_path / "series").iterdir()}
    for uid in read_split(tmp_path / "volume_split.csv"):
        volume, geometry = read_volume(tmp_path, uid), read_geometry(tmp_path, uid)
        assert volume.dtype == np.float32 and volume.shape[1:] == (64, 64)
        assert 15 <= len(volume) <= 52 and geometry["spacing_mm"][0] == 4.0
        assert volume[:, 24:40, 24:40].mean() > 0.02 and volume[:, :2, :2].max() < 0.3
    assert len(pd.read_csv(tmp_path / "volume_errors.csv")) == 0


def test_every_series_of_the_manifest_is_a_volume_or_an_error_that_says_why(tmp_path):
    write_stack(tmp_path / "series" / "good", head_ct(20), spacing=SPACING)
    (tmp_path / "series" / "broken").mkdir()
    (tmp_path / "series" / "broken" / "a.dcm").write_bytes(b"no image" * 100)
    write_manifest(tmp_path / "manifest.jsonl", [entry(name) for name in ("good", "broken", "absent")])
    result = run("preprocess", tmp_path, "--workers", "1")
    assert result.returncode == 0 and "1 series in" in result.stdout and "2 errors" in result.stdout, result.stderr
    errors = pd.read_csv(tmp_path / "volume_errors.csv").set_index("SeriesInstanceUID")
    assert errors.kind.to_dict() == {"broken": "unreadable series", "absent": "missing folder"}
    assert "not a readable DICOM file" in errors.message["broken"]
    # Soft tissue of 40 HU in a window from 0 to 600 HU; air below it.
    volume = read_volume(tmp_path, "good")
    assert volume.dtype == np.float16 and volume.shape == (13, 128, 128)
    assert volume[6, 64, 64] == pytest.approx(40 / 600, abs=1e-4) and volume[6, 1, 1] == 0
    assert "1 cached before" in run("preprocess", tmp_path, "--workers", "1").stdout


def test_a_run_killed_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    names = [f"s{i:02d}" for i in range(16)]
    for i, name in enumerate(names):
        write_stack(tmp_path / "series" / name, head_ct(10 + i), spacing=SPACING)
    write_manifest(tmp_path / "manifest.jsonl", [entry(name) for name in names])
    undisturbed = tmp_path.with_name(f"{tmp_path.name}_undisturbed")
    shutil.copytree(tmp_path, undisturbed, copy_function=shutil.copy2)
    assert run("preprocess", undisturbed, "--workers", "2").returncode == 0
    command = [sys.executable, "-m", "volume3d.preprocess", "--data_dir", str(tmp_path), "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)
    wait_for_files(tmp_path / "npy_volume", 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for_orphans(tmp_path)
    assert len(list((tmp_path / "npy_volume").glob("*.json"))) < 16, "the kill came too late to test anything"
    (tmp_path / "npy_volume" / ".s15.npy.elsewhere.1.part").write_bytes(b"left over")
    assert run("preprocess", tmp_path, "--workers", "2").returncode == 0
    assert digest(tmp_path) == digest(undisturbed)


def test_a_series_is_made_anew_when_a_file_a_setting_or_its_mask_changes(tmp_path):
    write_stack(tmp_path / "series" / "a", head_ct(6), spacing=SPACING)
    plain, masked = entry("a"), entry("a", segmentation_path="a.nii")
    coarse = VolumeSettings(z_mm=6)
    save_mask(tmp_path / "a.nii", np.full((64, 64, 6), 13, np.uint8), grid_affine(AXIAL, SPACING))
    steps = [(plain, False), (plain, True), (masked, False), (masked, True), (plain, False)]
    for described, was_there in steps:
        outcome = make_volume(tmp_path, described, coarse)
        assert (outcome.kind, outcome.was_cached) == ("", was_there)
        mask = read_vessels(tmp_path, "a")
        assert (mask is not None) == (described is masked)
        assert mask is None or mask[1, 64, 64] == 1 + LOCATIONS.index("Anterior Communicating Artery")
    make_volume(tmp_path, masked, coarse)
    (tmp_path / "npy_volume" / "a_mask.npy").unlink()
    assert not make_volume(tmp_path, masked, coarse).was_cached and read_vessels(tmp_path, "a") is not None
    make_volume(tmp_path, plain, coarse)
    os.utime(next((tmp_path / "series" / "a").iterdir()), ns=(1, 1))
    assert not make_volume(tmp_path, plain, coarse).was_cached
    assert not make_volume(tmp_path, plain, VolumeSettings(z_mm=6, window_high_hu=500)).was_cached
    (tmp_path / "npy_volume" / "a.npy").unlink()
    assert not make_volume(tmp_path, plain, VolumeSettings(z_mm=6, window_high_hu=500)).was_cached


@pytest.mark.parametrize("damaged", [lambda whole: whole[:-40], lambda _: b"{}", lambda _: b"null"])
def test_a_volume_whose_description_is_damaged_is_made_anew(tmp_path, damaged):
    write_stack(tmp_path / "series" / "a", head_ct(6), spacing=SPACING)
    make_volume(tmp_path, entry("a"), VolumeSettings())
    described = tmp_path / "npy_volume" / "a.json"
    whole = described.read_bytes()
    described.write_bytes(damaged(whole))
    outcome = make_volume(tmp_path, entry("a"), VolumeSettings())
    assert (outcome.kind, outcome.was_cached) == ("", False) and described.read_bytes() == whole


def test_a_series_that_has_become_unreadable_keeps_no_old_volume(tmp_path):
    write_stack(tmp_path / "series" / "a", head_ct(6), spacing=SPACING)
    assert make_volume(tmp_path, entry("a"), VolumeSettings()).kind == ""
    for file in (tmp_path / "series" / "a").iterdir():
        file.write_bytes(b"no image")
    assert make_volume(tmp_path, entry("a"), VolumeSettings()).kind == "unreadable series"
    assert not list((tmp_path / "npy_volume").iterdir())


def test_hounsfield_units_are_those_of_the_pixels_where_the_header_lies(tmp_path):
    stack = head_ct(12)
    stack[:, 0, 0] = -2000  # padding; air is not the smallest value
    write_stack(tmp_path / "series" / "a", stack, spacing=SPACING, RescaleSlope=1, RescaleIntercept=-1024)
    volume, geometry = made(tmp_path, z_mm=4)
    assert geometry["shift_hu"] == 1024 and volume[3, 64, 64] == pytest.approx(40 / 600, abs=1e-4)


def test_the_top_of_the_head_is_kept(tmp_path):
    stack = head_ct(100)
    stack[80:] = -1000  # 40 mm of air above the head
    write_stack(tmp_path / "series" / "a", stack, spacing=SPACING)
    volume, geometry = made(tmp_path, z_mm=2.0, head_mm=60.0)
    # Of the 24 slices looked at, number 77 (154 mm) is the highest that shows the head, and 82 (164 mm) the next one.
    top_mm = geometry["origin"][2] + 2.0 * (len(volume) - 1)
    assert geometry["origin"][2] == pytest.approx(94.0) and top_mm == pytest.approx(164.0)


def test_the_estimate_counts_voxels_of_the_kept_head(tmp_path):
    write_stack(tmp_path / "series" / "a", head_ct(40), spacing=SPACING)
    entries = [entry("a", segmentation_path="m.nii"), entry("a")]
    settings = {"z_mm": 4.0, "size": 50}
    assert estimate_bytes(tmp_path, entries, VolumeSettings(head_mm=0, **settings)) == 20 * 2500 * (2 + 2 + 1)
    half = VolumeSettings(head_mm=40, dtype="float32", **settings)
    assert estimate_bytes(tmp_path, entries, half) == 10 * 2500 * (4 + 4 + 1)
    assert estimate_bytes(tmp_path, [], half) == 0


@pytest.mark.parametrize("error", [ValueError("no image"), NotImplementedError("VR"), MemoryError()])
def test_a_series_that_cannot_be_read_stops_no_estimate(tmp_path, monkeypatch, error):
    def raising(*_, **__) -> None:
        raise error

    monkeypatch.setattr("volume3d.preprocess.read_series", raising)
    assert estimate_bytes(tmp_path, [entry("a")], VolumeSettings()) == 0


@pytest.mark.parametrize("wrong", [{"z_mm": 0.0}, {"size": 0}, {"head_mm": -1.0}, {"window_low_hu": 600.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected z_mm above 0, size of at least 1"):
        VolumeSettings(**wrong)


def test_a_position_out_of_this_world_is_an_error_and_not_the_end(tmp_path):
    def far(i: int) -> dict:
        return {"ImagePositionPatient": [0, 0, 10.0**8 * (i == 3)]} if i == 3 else {}

    write_stack(tmp_path / "series" / "a", np.full((4, 16, 16), 40, np.int16), each=far)
    outcome = make_volume(tmp_path, entry("a"), VolumeSettings(head_mm=0))
    assert outcome.kind == "unreadable series" and "expected a patient, found" in outcome.message


def test_memory_does_not_grow_with_the_number_of_slices(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.volume3d_series import *;"
        "made(Path(sys.argv[1]), head_mm=0, size=64);"
    )
    peak_mb = peak_mb_of_few_and_many_slices(code, tmp_path)
    assert peak_mb[1] < peak_mb[0] + 30 and peak_mb[1] < 1500
