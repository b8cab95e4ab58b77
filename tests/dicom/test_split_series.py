"""Two patients, studies, coordinate systems or folders that contradict are two series, whatever UID they share."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from aneurysm.dicom.find import SeriesFiles, find_series
from aneurysm.dicom.series import read_series
from tests.dicom_writer import SERIES_UID, ramp, warned, write_enhanced, write_stack

FIRST = ramp((4, 6, 8))
SECOND = FIRST + np.int16(1000)


def found(tmp_path: Path, *paths: Path) -> list[SeriesFiles]:
    series = list(find_series(paths, tmp_path / "unpacked"))
    assert len({one.uid for one in series}) == len(series)
    return series


@pytest.mark.parametrize("tag", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
@pytest.mark.parametrize("folders", [("a", "b"), ("mixed", "mixed")])
def test_patients_studies_and_coordinates_that_differ_are_two_series(tmp_path, tag, folders):
    for value, volume, folder in zip(("1.1", "1.2"), (FIRST, SECOND), folders, strict=True):
        write_stack(tmp_path / "x", volume, first=(0, 0, 2.0 * (value == "1.2")), **{tag: value})
        (tmp_path / folder).mkdir(exist_ok=True)
        for path in sorted((tmp_path / "x").iterdir()):
            path.rename(tmp_path / folder / f"{value}-{path.name}")
    (tmp_path / "x").rmdir()
    series = found(tmp_path, tmp_path)
    assert [len(one.files) for one in series] == [4, 4]
    assert all(one.uid.startswith(f"{SERIES_UID}-") for one in series)
    pixels = sorted((read_series(one).pixels for one in series), key=np.min)
    np.testing.assert_array_equal(pixels, [FIRST, SECOND])
    assert {read_series(one).uid for one in series} == {one.uid for one in series}
    assert [one.uid for one in found(tmp_path, tmp_path)] == [one.uid for one in series]  # the same in every run
    if tag == "PatientID":
        with pytest.raises(ValueError, match="expected one series, found 4 files each of 2 patients"):
            read_series(tmp_path)
    else:
        series = read_series(tmp_path)
        assert series.n_slices == 4 and warned(series, "4 of 8 images left out, of another series, patient, study")


def test_a_few_files_of_another_patient_in_a_folder_are_left_out_and_named(tmp_path):
    write_stack(tmp_path / "a", FIRST)
    write_stack(tmp_path / "b", SECOND[:1], PatientID="another")
    (tmp_path / "b" / "900.dcm").rename(tmp_path / "b" / "odd.dcm")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, FIRST)
    assert warned(series, "1 of 5 images left out, of another series, patient") and warned(series, "odd.dcm")


def test_a_missing_patient_contradicts_nothing_and_one_for_each_file_neither(tmp_path):
    write_stack(tmp_path / "a", FIRST, each=lambda i: {"PatientID": "p" if i else None})
    write_stack(tmp_path / "b", FIRST, each=lambda i: {"PatientID": f"p{i}"}, SeriesInstanceUID="1.2.3")
    assert [(one.uid, len(one.files)) for one in found(tmp_path, tmp_path)] == [(SERIES_UID, 4), ("1.2.3", 4)]


def test_without_a_series_uid_the_series_number_tells(tmp_path):
    for number, volume in ((2, FIRST), (3, SECOND)):
        each = [{"SOPInstanceUID": f"1.{number}.{i}", "SeriesNumber": number} for i in range(4)]
        first = (0, 0, 2.5 * (number - 2))
        write_stack(tmp_path / "x", volume, first=first, each=each.__getitem__, SeriesInstanceUID=None)
        (tmp_path / "study").mkdir(exist_ok=True)
        for path in sorted((tmp_path / "x").iterdir()):
            path.rename(tmp_path / "study" / f"{number}-{path.name}")
    series = {one.uid: one for one in found(tmp_path, tmp_path / "study")}
    assert set(series) == {"study-2", "study-3"}
    np.testing.assert_array_equal(read_series(series["study-3"]).pixels, SECOND)


def test_folders_that_hold_other_images_of_the_same_places_are_two_series(tmp_path):
    write_stack(tmp_path / "a", FIRST)
    write_stack(tmp_path / "b", SECOND)
    write_stack(tmp_path / "c", SECOND, orientation=(-1, 0, 0, 0, -1, 0))
    write_enhanced(tmp_path / "d" / "e.dcm", FIRST, geometry="none", SOPInstanceUID="9.9")
    series = found(tmp_path, tmp_path)
    assert sorted(one.folder.name for one in series) == ["a", "b", "c", "d"]


def test_a_folder_copied_whole_and_one_that_goes_on_are_one_series(tmp_path):
    write_stack(tmp_path / "a", FIRST)
    shutil.copytree(tmp_path / "a", tmp_path / "copy of a")
    (tmp_path / "rest").mkdir()
    for path in sorted((tmp_path / "a").iterdir())[:2]:
        path.rename(tmp_path / "rest" / path.name)
    (series,) = found(tmp_path, tmp_path)
    assert series.uid == SERIES_UID
    read = read_series(series)
    np.testing.assert_array_equal(read.pixels, FIRST)
    assert warned(read, "4 images are copies of others and count once")
