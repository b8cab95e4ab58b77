"""Links, names that are no text, objects without a picture: followed, spelt out, listed; nothing lost, no loop."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pydicom
import pytest

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.preprocess import preprocess_series
from aneurysm.cache.tables import write_tables
from aneurysm.dicom.find import find_series, without_scouts
from aneurysm.dicom.folders import files_below
from aneurysm.dicom.series import read_series
from aneurysm.paths import DataPaths
from tests.dicom_writer import CT_STORAGE, SERIES_UID, ramp, write_image, write_stack
from tests.preprocess_script import run

VOLUME = ramp((4, 24, 24))


def test_a_linked_folder_is_followed_once_and_loops_are_not(tmp_path):
    scans = tmp_path / "scans"
    write_stack(scans / "one", VOLUME)
    write_stack(tmp_path / "elsewhere" / "two", VOLUME, SeriesInstanceUID="1.2.3")
    (scans / "two").symlink_to(tmp_path / "elsewhere" / "two")
    (scans / "two again").symlink_to(tmp_path / "elsewhere")
    (scans / "one" / "loop").symlink_to(scans)
    (scans / "a link to one").symlink_to(scans / "one")
    (tmp_path / "elsewhere" / "back").symlink_to(scans)
    assert len(files_below(scans)) == 8
    series = {one.uid: one for one in find_series([scans], tmp_path / "unpacked")}
    assert {uid: len(one.files) for uid, one in series.items()} == {SERIES_UID: 4, "1.2.3": 4}
    assert series[SERIES_UID].folder == scans / "one" and series["1.2.3"].folder.parent in (scans, scans / "two again")


def test_a_link_that_leads_out_above_the_folder_is_not_followed_and_named(tmp_path):
    write_stack(tmp_path / "scans" / "one", VOLUME)
    write_stack(tmp_path / "private", VOLUME, SeriesInstanceUID="1.2.3")
    (tmp_path / "scans" / "one" / "up").symlink_to(tmp_path)
    series = list(find_series([tmp_path / "scans"], tmp_path / "unpacked"))
    assert [one.uid for one in series if one.files] == [SERIES_UID]
    assert any("up: a link to a folder that holds" in reason for one in series for reason in one.left_out)


def test_names_that_are_no_utf8_are_spelt_out_in_the_tables(tmp_path):
    folder = tmp_path / "series" / SERIES_UID
    write_stack(folder, VOLUME)
    with open(os.fsencode(folder) + b"/Befund M\xfcller.txt", "wb") as file:
        file.write(b"text")
    os.rename(folder / "900.dcm", os.fsencode(folder) + b"/\xe4.dcm")
    outcomes = [preprocess_series(tmp_path, uid, CacheSettings(), False) for uid in (SERIES_UID, "1.2.3")]
    meta, errors = write_tables(DataPaths(tmp_path), outcomes)
    assert len(meta) == 1 and len(errors) == 1
    text = pd.read_csv(tmp_path / "train_meta.csv").warnings[0]
    assert r"Befund M\udcfcller.txt" in text


def test_a_series_folder_whose_name_is_no_utf8_does_not_end_the_step(tmp_path):
    write_stack(tmp_path / "series" / "1.2", VOLUME)
    os.rename(tmp_path / "series" / "1.2", os.fsencode(tmp_path / "series") + b"/M\xfcller")
    write_stack(tmp_path / "series" / "1.3", VOLUME)
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    assert pd.read_csv(tmp_path / "train_meta.csv", dtype=str).SeriesInstanceUID.tolist() == ["1.3", r"M\udcfcller"]


def an_object(path: Path, modality: str, sop_class: str, rows: bool = True) -> None:
    write_image(path, VOLUME[0], Modality=modality, SOPClassUID=sop_class, SeriesInstanceUID=f"1.9.{len(path.name)}")
    if not rows:
        dataset = pydicom.dcmread(path)
        for tag in ("Rows", "Columns", "PixelData"):
            delattr(dataset, tag)
        dataset.save_as(path)


OBJECTS = [
    ("SEG", "1.2.840.10008.5.1.4.1.1.66.4", True),
    ("PR", "1.2.840.10008.5.1.4.1.1.11.1", False),
    ("SR", "1.2.840.10008.5.1.4.1.1.88.33", False),
    ("KO", "1.2.840.10008.5.1.4.1.1.88.59", False),
    ("RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3", False),
    ("RTDOSE", "1.2.840.10008.5.1.4.1.1.481.2", True),
    ("CT", "1.2.840.10008.5.1.4.1.1.7", True),  # a screenshot, without a position
]


@pytest.mark.parametrize(("modality", "sop_class", "rows"), OBJECTS, ids=[f"{one[0]}{one[1][-3:]}" for one in OBJECTS])
def test_objects_that_are_no_pictures_are_listed_and_are_no_series(tmp_path, modality, sop_class, rows):
    write_stack(tmp_path / "a", VOLUME)
    for folder in ("a", "objects"):
        an_object(tmp_path / folder / "object.dcm", modality, sop_class, rows)
        dataset = pydicom.dcmread(tmp_path / folder / "object.dcm")
        if sop_class.endswith("1.1.7"):
            del dataset.ImagePositionPatient
            dataset.save_as(tmp_path / folder / "object.dcm")
    asked, left_out = without_scouts(find_series([tmp_path], tmp_path / "unpacked"))
    assert [one.uid for one in asked] == [SERIES_UID]
    assert len(asked[0].left_out) == 1 and "object.dcm: not an image of a patient" in asked[0].left_out[0]
    assert len(left_out) == 1 and "objects/object.dcm" in left_out[0]
    assert read_series(asked[0]).n_slices == 4


def test_scouts_beside_a_series_are_listed_and_alone_they_are_read(tmp_path):
    write_stack(tmp_path / "a", VOLUME)
    write_stack(tmp_path / "b", VOLUME[:2], SeriesInstanceUID="1.2.3", SOPClassUID=CT_STORAGE)
    asked, left_out = without_scouts(find_series([tmp_path], tmp_path / "unpacked"))
    assert [one.uid for one in asked] == [SERIES_UID]
    assert left_out == [f"{tmp_path / 'b'} (1.2.3): 2 images, a scout"]
    asked, left_out = without_scouts(find_series([tmp_path / "b"], tmp_path / "unpacked"))
    assert [one.uid for one in asked] == ["1.2.3"] and left_out == []
    write_stack(tmp_path / "b", VOLUME[:2], SeriesInstanceUID="1.2.3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert without_scouts(find_series([tmp_path / "b"], tmp_path / "unpacked"))[0] == []


def test_what_is_missing_empty_or_broken_still_counts(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.dcm").write_bytes(b"x" * 500)
    an_object(tmp_path / "broken" / "object.dcm", "SR", "1.2.840.10008.5.1.4.1.1.88.33", rows=False)
    asked, left_out = without_scouts(find_series([tmp_path, tmp_path / "nowhere"], tmp_path / "unpacked"))
    assert sorted(one.uid for one in asked) == ["broken", "empty", "nowhere"] and left_out == []


def test_the_fingerprint_of_a_series_changes_with_its_files_and_not_with_their_place(tmp_path):
    write_stack(tmp_path / "a", VOLUME)
    (before,) = find_series([tmp_path / "a"], tmp_path / "unpacked")
    before = before.fingerprint()
    (tmp_path / "a").rename(tmp_path / "b")
    (moved,) = find_series([tmp_path / "b"], tmp_path / "unpacked")
    assert moved.fingerprint() == before
    (tmp_path / "b" / "899.dcm").unlink()
    (less,) = find_series([tmp_path / "b"], tmp_path / "unpacked")
    assert less.fingerprint() != before
