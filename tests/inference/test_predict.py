"""predict.py as it is run: series in folders, files and archives, what it writes, exit codes, and starting again."""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from aneurysm.inference.bundle import bundle_identity, read_bundle
from aneurysm.inference.predict import Predictor
from aneurysm.labels import LABELS, PRESENT
from predict import PredictConfig, main
from tests.dicom_writer import write_stack
from tests.end_to_end_data import CPU, ROUNDED, head

ROOT = Path(__file__).parents[2]
SPACING = (3.0, 3.0, 3.0)


@pytest.fixture(scope="module")
def root(trained_root, tmp_path_factory) -> Path:
    """bundle/, and scans/: two series mixed in one folder, one in an archive, one of a single file, and nothing."""
    root = tmp_path_factory.mktemp("predicted")
    shutil.copytree(trained_root / "bundle", root / "bundle")
    for i, uid in enumerate(("1.2.31", "1.2.32", "1.2.33")):
        write_stack(root / uid, head(30, 20 + i), spacing=SPACING, SeriesInstanceUID=uid)
    mixed = root / "scans" / "mixed"
    mixed.mkdir(parents=True)
    for uid in ("1.2.31", "1.2.32"):
        for file in (root / uid).iterdir():
            shutil.copy(file, mixed / f"{uid}-{file.name}")
    with zipfile.ZipFile(root / "scans.zip", "w") as archive:
        for file in (root / "1.2.33").iterdir():
            archive.write(file, f"a/b/{file.name}")
    shutil.copy(trained_root / "data" / "series" / "enhanced" / "e.dcm", root / "enhanced.dcm")
    (root / "nothing").mkdir()
    return root


def predict(root: Path, *paths: str, **settings) -> int:
    given = {"bundle": root / "bundle", "out": root / "report", "device": "cpu", "workers": 0} | settings
    return main(PredictConfig(tuple(root / path for path in paths), **given))


def records(out: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}


def test_it_answers_for_every_series_wherever_it_lies(root, tmp_path, capsys):
    assert predict(root, "scans", "scans.zip", "enhanced.dcm", out=tmp_path) == 0
    assert "4 series, 0 could not be read" in capsys.readouterr().out
    found = records(tmp_path)
    predictor = Predictor(read_bundle(root / "bundle"), CPU)
    assert {"1.2.31", "1.2.32", "1.2.33"} < set(found) and len(found) == 4
    for uid in ("1.2.31", "1.2.33"):  # as from a folder of its own
        expected = predictor.predict_series(root / uid).probabilities
        np.testing.assert_allclose(list(found[uid]["probabilities"].values()), expected, atol=ROUNDED)
        assert found[uid]["bundle"] == bundle_identity(root / "bundle") and found[uid]["warnings"] == []
    assert found["1.2.33"]["place"].endswith("scans.zip/a/b")
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert list(table) == ["SeriesInstanceUID", *LABELS, "failure"] and (table.failure == "").all()
    assert sorted(table[PRESENT], reverse=True) == table[PRESENT].tolist()
    index = (tmp_path / "index.html").read_text()
    places = [index.index(f'href="{uid}.html"') for uid in table.SeriesInstanceUID]
    assert places == sorted(places)
    for uid in table.SeriesInstanceUID:
        page = (tmp_path / f"{uid}.html").read_text()
        assert page.count("<figure") >= 3 and "not a medical device" in page and LABELS[0] in page


def test_what_could_not_be_read_is_listed_and_the_exit_code_is_3(root, tmp_path, capsys):
    (root / "nothing" / "x.dcm").write_bytes(b"garbage")
    assert predict(root, "1.2.31", "nothing", "nowhere", out=tmp_path) == 3
    output = capsys.readouterr().out
    assert "3 series, 2 could not be read" in output and "x.dcm: not a readable DICOM file" in output
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table.SeriesInstanceUID.tolist() == ["1.2.31", "nothing", "nowhere"]
    assert table[list(LABELS)].isna().all(axis=1).tolist() == [False, True, True]
    assert "no such folder" in table.failure[2]
    assert "2 could not be read" in (tmp_path / "index.html").read_text()
    assert "no such folder" in (tmp_path / "nowhere.html").read_text()


def test_names_that_are_formulas_or_commands_of_a_terminal_do_no_harm(root, tmp_path, capsys):
    names = ["=1+1", "\x1b[31mred", "caf\udce9"]
    assert predict(root, *names, out=tmp_path) == 3
    output = capsys.readouterr().out
    assert "3 series, 3 could not be read" in output and "\x1b" not in output
    assert r"no answer for \x1b[31mred: " in output and r"no answer for caf\udce9: " in output
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["SeriesInstanceUID"] for row in rows] == ["'=1+1", r"\x1b[31mred", r"caf\udce9"]
    assert all("no such folder or file" in row["failure"] and "\x1b" not in row["failure"] for row in rows)
    assert sorted(record["series_uid"] for record in records(tmp_path).values()) == sorted(names)


def test_started_again_it_asks_only_about_what_has_no_answer_from_the_same_bundle(root, tmp_path, monkeypatch):
    predict(root, "1.2.31", "nothing", out=tmp_path)
    shutil.copytree(root / "1.2.32", tmp_path / "more")
    asked, predict_all = [], Predictor.predict_all

    def spied(self, places, *args, **settings):
        asked.append([place.uid for place in places])
        return predict_all(self, places, *args, **settings)

    monkeypatch.setattr(Predictor, "predict_all", spied)
    before = (tmp_path / "1.2.31.html").stat().st_mtime_ns
    assert predict(root, "1.2.31", "1.2.32", "nothing", out=tmp_path, resume=True) == 3
    assert asked == [["1.2.32", "nothing"]] and (tmp_path / "1.2.31.html").stat().st_mtime_ns == before
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 3
    record = json.loads((tmp_path / "1.2.31.json").read_text())
    (tmp_path / "1.2.31.json").write_text(json.dumps(record | {"bundle": {"sha256": "another", "commit": ""}}))
    (tmp_path / "1.2.32.html").unlink()
    predict(root, "1.2.31", "1.2.32", out=tmp_path, resume=True)
    predict(root, "1.2.31", out=tmp_path)
    assert asked[1:] == [["1.2.31", "1.2.32"], ["1.2.31"]]


def test_started_again_it_asks_about_a_series_whose_files_have_come_or_gone(root, tmp_path, capsys):
    (tmp_path / "scan").mkdir()
    files = sorted((root / "1.2.31").iterdir())
    for count in (len(files) // 2, len(files), len(files) - 3):
        for path in (tmp_path / "scan").iterdir():
            path.unlink()
        for path in files[:count]:
            shutil.copy(path, tmp_path / "scan")
        assert predict(root, tmp_path / "scan", out=tmp_path / "report", resume=True) == 0
        assert records(tmp_path / "report")["1.2.31"]["geometry"]["images"] == count


def test_reports_and_scouts_are_listed_and_not_answered(root, tmp_path, capsys):
    write_stack(tmp_path / "scans" / "scout", head(2, 20), spacing=SPACING, SeriesInstanceUID="1.2.39")
    shutil.copytree(root / "1.2.31", tmp_path / "scans" / "a")
    with open(os.fsencode(tmp_path / "scans" / "a") + b"/M\xfcller.txt", "wb") as file:
        file.write(b"text")
    assert predict(root, tmp_path / "scans", out=tmp_path / "report") == 0
    output = capsys.readouterr().out
    assert "1 series, 0 could not be read" in output and "(1.2.39): 2 images, a scout" in output
    assert list(records(tmp_path / "report")) == ["1.2.31"]


def test_what_a_time_budget_left_out_is_told_and_asked_again(root, tmp_path, monkeypatch):
    monkeypatch.setattr("aneurysm.inference.slice_ensemble.FEWEST_WINDOWS", 4)
    predict(root, "1.2.31", out=tmp_path, time_budget=1e-9)
    record = records(tmp_path)["1.2.31"]
    assert "2 of 2 models did not run on the mirror image" in record["left_out"]
    # Of the first series, too: the pace is measured before it.
    assert "slices were evaluated" in record["left_out"][0]
    assert "did not run on the mirror image" in (tmp_path / "1.2.31.html").read_text()
    predict(root, "1.2.31", out=tmp_path, resume=True)
    assert records(tmp_path)["1.2.31"]["left_out"] == []


def test_dicom_objects_are_written_beside_the_pages(root, tmp_path, monkeypatch):
    predict(root, "1.2.31", "nothing", out=tmp_path, dicom_sr=True, dicom_seg=True, min_probability=0.0)
    report, marks = (pydicom.dcmread(tmp_path / f"1.2.31_{kind}.dcm") for kind in ("sr", "seg"))
    assert report.Modality == "SR" and marks.Modality == "SEG"
    findings = records(tmp_path)["1.2.31"]["findings"]
    assert len(marks.SegmentSequence) == len(findings) > 0
    assert marks.SegmentSequence[0].SegmentLabel == f"1 {findings[0]['location']}"
    assert not list(tmp_path.glob("nothing_*.dcm"))
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r"pip install -e \.\[dicom\]"):
        predict(root, "1.2.31", out=tmp_path, dicom_seg=True)


def test_objects_of_an_earlier_answer_do_not_outlive_it(root, tmp_path):
    series = shutil.copytree(root / "1.2.31", tmp_path / "1.2.31")
    messages = {"out": tmp_path / "report", "dicom_sr": True, "dicom_seg": True}
    predict(tmp_path, series, bundle=root / "bundle", min_probability=0.0, **messages)
    assert {path.name for path in (tmp_path / "report").glob("*.dcm")} == {"1.2.31_sr.dcm", "1.2.31_seg.dcm"}
    predict(tmp_path, series, bundle=root / "bundle", min_probability=1.0, **messages)  # no finding: nothing to draw
    assert [path.name for path in (tmp_path / "report").glob("*.dcm")] == ["1.2.31_sr.dcm"]
    for file in series.iterdir():
        file.write_bytes(b"no image")
    assert predict(tmp_path, series, bundle=root / "bundle", **messages) == 3
    assert not list((tmp_path / "report").glob("*.dcm"))


@pytest.mark.parametrize(
    ("error", "words"),
    [(ValueError("no UID"), "no UID"), (MemoryError("3 GB"), "MemoryError: 3 GB"), (KeyError(7), "KeyError: 7")],
)
def test_an_object_that_cannot_be_written_is_told_and_costs_no_page(root, tmp_path, monkeypatch, error, words):
    def raising(*_) -> None:
        raise error

    monkeypatch.setattr("aneurysm.report.folder.write_sr", raising)
    assert predict(root, "1.2.31", out=tmp_path, dicom_sr=True) == 0
    assert records(tmp_path)["1.2.31"]["warnings"] == [f"1.2.31_sr.dcm could not be written: {words}"]


@pytest.mark.slow
def test_the_script_itself(root, tmp_path):
    command = [sys.executable, "predict.py", root / "1.2.31", root / "scans.zip", "--bundle", root / "bundle", "--out",
               tmp_path / "report", "--device", "cpu", "--workers", "1"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == str(tmp_path / "report" / "index.html")
    command[command.index("--bundle") + 1] = tmp_path
    failed = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, env=environment)
    assert failed.returncode == 1 and failed.stderr.startswith("error: ") and "expected the card" in failed.stderr
