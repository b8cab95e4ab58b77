"""create_folds.py from DICOM files to the three tables."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aneurysm.cache.preprocess import CacheSettings, preprocess_series
from aneurysm.cache.tables import write_tables
from aneurysm.folds.manifest import write_manifest
from aneurysm.labels import LABELS
from aneurysm.paths import DataPaths
from create_folds import command
from tests.dicom_writer import write_stack
from tests.volume3d_series import entry

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """Six series of two patients each, the first three positive; s5 has no files, and s2's localizer no image."""
    root = tmp_path_factory.mktemp("data")
    volume = np.full((60, 32, 32), 1000, np.int16)
    uids = [f"s{i}" for i in range(6)]
    for i, uid in enumerate(uids[:5]):
        sop_uids = write_stack(root / "series" / uid, volume, spacing=(3.0, 6.0, 6.0), PatientID=f"p{i // 2}")
    outcomes = [preprocess_series(root, uid, CacheSettings(head_mm=0), slices=False) for uid in uids]
    train = pd.DataFrame({"SeriesInstanceUID": uids, "Modality": "MRA", "PatientSex": "Female"})
    train[list(LABELS)] = 0
    train.loc[:2, ["Basilar Tip", "Aneurysm Present"]] = 1
    train.to_csv(root / "train.csv", index=False)
    write_tables(DataPaths(root), outcomes)
    marked = {"s0": sop_uids[30], "s1": sop_uids[30], "s2": "1.2"}
    rows = [(uid, sop_uid, "{'x': 10, 'y': 12}", "Basilar Tip") for uid, sop_uid in marked.items()]
    table = pd.DataFrame(rows, columns=["SeriesInstanceUID", "SOPInstanceUID", "coordinates", "location"])
    table.to_csv(root / "train_localizers.csv", index=False)
    return root


def run(data_dir: Path, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "create_folds.py", "--data_dir", str(data_dir), "--folds", "2", "--safe_mm", "15"]
    return subprocess.run([*command, *args], cwd=ROOT, capture_output=True, text=True)


def test_the_tables_hold_every_series_its_fold_and_its_spots(data_dir):
    result = run(data_dir)
    assert result.returncode == 0, result.stderr
    assert "1 localizers without a place, 1 series that are not in the cache" in result.stdout
    folds = pd.read_csv(data_dir / "train_2_folds.csv").set_index("SeriesInstanceUID")
    assert folds.index.tolist() == [f"s{i}" for i in range(6)]
    assert folds.fold["s0"] == folds.fold["s1"] and folds.fold["s2"] == folds.fold["s3"]
    spots = pd.read_csv(data_dir / "train_stage1_2_folds.csv")
    positives = spots[spots.kind == "positive"]
    assert positives.SeriesInstanceUID.tolist() == ["s0", "s1"] and positives.slice.tolist() == [30, 30]
    assert (positives.location == "Basilar Tip").all() and (positives.modality == "MRA").all()
    assert set(spots.SeriesInstanceUID[spots.kind == "negative"]) <= {"s0", "s1", "s3", "s4"}
    assert (spots.fold == folds.fold[spots.SeriesInstanceUID].to_numpy()).all()


def test_a_localizer_without_a_place_is_a_row_that_says_why(data_dir):
    run(data_dir)
    errors = pd.read_csv(data_dir / "localizer_errors.csv")
    assert errors.SeriesInstanceUID.tolist() == ["s2"] and errors.error[0] == "no image 1.2 in the series"


def test_a_localizer_of_a_cached_series_that_the_tables_do_not_name_is_a_row_that_says_so(data_dir, tmp_path):
    fewer = shutil.copytree(data_dir, tmp_path / "data")
    for name, left_out in (("train.csv", "s0"), ("train_meta.csv", "s1")):
        table = pd.read_csv(fewer / name)
        table[table.SeriesInstanceUID != left_out].to_csv(fewer / name, index=False)
    result = run(fewer)
    assert result.returncode == 0, result.stderr
    errors = pd.read_csv(fewer / "localizer_errors.csv").set_index("SeriesInstanceUID")
    assert set(errors.index) == {"s0", "s1", "s2"} and "train.csv and train_meta.csv" in errors.error["s0"]
    assert "train.csv and train_meta.csv" in errors.error["s1"]


def test_patients_of_a_manifest_are_kept_together_even_those_that_are_not_in_the_cache(data_dir):
    patients = {"s0": "a", "s5": "a", "s1": "b", "s2": "b", "s3": "c", "s4": "c"}  # s5 has no files
    write_manifest(data_dir / "manifest.jsonl", [entry(uid, patient_id=who) for uid, who in patients.items()])
    result = run(data_dir, "--manifest", str(data_dir / "manifest.jsonl"))
    assert result.returncode == 0, result.stderr
    folds = pd.read_csv(data_dir / "train_2_folds.csv").set_index("SeriesInstanceUID")
    assert folds.patient_id.to_dict() == patients
    assert all(folds.fold[one] == folds.fold[other] for one, other in (("s0", "s5"), ("s1", "s2"), ("s3", "s4")))
    assert folds.fold.nunique() == 2


def test_a_missing_file_is_named(tmp_path):
    result = run(tmp_path)
    assert result.returncode == 1 and "train.csv: not there" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["train.csv", "train_meta.csv", "train_localizers.csv"])
@pytest.mark.parametrize(
    ("content", "output"),
    [
        (None, "not there"),
        (b"", "expected a CSV table"),
        (b"a,b\n1,2,3\n4,5,6,7,8\n", "expected a CSV table"),
        (b"PatientAge\n50\n", "expected"),
    ],
)
def test_a_table_that_is_missing_or_damaged_ends_in_one_line_that_names_it(
    data_dir, tmp_path, monkeypatch, name, content, output
):
    for path in ("train.csv", "train_meta.csv", "train_localizers.csv", "npy_sequence"):
        (tmp_path / path).symlink_to(data_dir / path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["create_folds.py", "--data_dir", str(tmp_path), "--folds", "2"])
    with pytest.raises(SystemExit, match=f"^error: {tmp_path / name}: {output}"):
        command()
    assert not (tmp_path / "train_2_folds.csv").exists()
