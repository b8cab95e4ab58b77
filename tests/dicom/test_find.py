"""find_series: what lies in folders, files and archives is told apart by SeriesInstanceUID, and nothing is lost."""

import shutil
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aneurysm.dicom.find import SeriesFiles, find_series
from aneurysm.dicom.series import read_series
from tests.dicom_writer import write_enhanced, write_image, write_stack

PIXELS = np.arange(4 * 8 * 8, dtype=np.int16).reshape(4, 8, 8)


def found(tmp_path: Path, *paths: Path) -> dict[str, SeriesFiles]:
    series = list(find_series(paths, tmp_path / "unpacked"))
    assert len({one.uid for one in series}) == len(series)
    return {one.uid: one for one in series}


def scan(folder: Path, uid: str, n_slices: int = 4) -> Path:
    for i in range(n_slices):
        write_image(folder / f"{uid}-{i}.dcm", PIXELS[i], SeriesInstanceUID=uid, SOPInstanceUID=f"{uid}.{i}",
                    ImagePositionPatient=[0, 0, 2.0 * i], InstanceNumber=i + 1)  # fmt: skip
    return folder


def test_series_that_lie_mixed_in_one_folder_are_told_apart(tmp_path):
    scan(tmp_path / "mixed", "1.2.3")
    scan(tmp_path / "mixed", "1.2.4", n_slices=3)
    series = found(tmp_path, tmp_path / "mixed")
    assert {uid: len(one.files) for uid, one in series.items()} == {"1.2.3": 4, "1.2.4": 3}
    read = read_series(series["1.2.4"])
    assert read.uid == "1.2.4" and read.n_slices == 3 and read.warnings == []
    np.testing.assert_array_equal(read.pixels, PIXELS[:3])


def test_a_series_spread_over_folders_files_and_an_archive_is_one_and_a_file_named_twice_counts_once(tmp_path):
    folder = scan(tmp_path / "a", "1.2.3")
    (tmp_path / "b").mkdir()
    shutil.move(folder / "1.2.3-3.dcm", tmp_path / "b" / "last.dcm")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.write(folder / "1.2.3-2.dcm", "deep/inside/x.dcm")
    (folder / "1.2.3-2.dcm").unlink()
    series = found(tmp_path, folder, folder / "1.2.3-0.dcm", tmp_path / "b" / "last.dcm", tmp_path / "c.zip")
    assert list(series) == ["1.2.3"] and len(series["1.2.3"].files) == 4
    assert read_series(series["1.2.3"]).n_slices == 4
    assert series["1.2.3"].folder == folder
    alone = found(tmp_path / "again", tmp_path / "c.zip")["1.2.3"]
    assert alone.folder == tmp_path / "c.zip" / "deep" / "inside"  # as a person would name it


def test_one_multi_frame_file_is_a_series(tmp_path):
    write_enhanced(tmp_path / "e.dcm", PIXELS, spacing=(2.0, 1.0, 1.0))
    (series,) = found(tmp_path, tmp_path / "e.dcm").values()
    assert read_series(series).n_slices == 4


def test_what_is_no_image_is_told_with_the_series_beside_it(tmp_path):
    folder = scan(tmp_path / "a", "1.2.3")
    (folder / "notes.txt").write_text("no image")
    series = found(tmp_path, tmp_path)["1.2.3"]
    assert len(series.files) == 4 and "notes.txt" in series.left_out[0]
    assert "1 files left out" in read_series(series).warnings[0]


def test_a_missing_path_an_empty_folder_garbage_and_a_damaged_archive_are_series_that_cannot_be_read(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "a.bin").write_bytes(b"x" * 1000)
    (tmp_path / "dots.in.name").mkdir()
    scan(tmp_path / "good", "1.2.3")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "good" / "1.2.3-0.dcm", "x.dcm")
    content = bytearray((tmp_path / "bad.zip").read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "bad.zip").write_bytes(content)
    series = found(tmp_path, tmp_path, tmp_path / "bad.zip", tmp_path / "nowhere")
    # Below a folder archives are files like others: notes beside the series, not opened.
    reasons = {"empty": "no file", "garbage": "a.bin", "dots.in.name": "no file", "bad.zip": "cannot be unpacked",
               "nowhere": "no such folder or file"}  # fmt: skip
    assert set(series) == {"1.2.3", *reasons}
    for uid, words in reasons.items():
        with pytest.raises(ValueError, match="expected DICOM images") as error:
            read_series(series[uid])
        assert words in str(error.value)


def test_folders_of_one_name_without_images_keep_both_their_places(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "same").mkdir(parents=True)
    series = found(tmp_path, tmp_path)
    assert {uid: one.folder for uid, one in series.items()} == {
        "same": tmp_path / "a" / "same", "same-2": tmp_path / "b" / "same"
    }  # fmt: skip


def test_a_folder_above_the_series_need_not_hold_an_image_but_a_broken_one_is_counted(tmp_path):
    scan(tmp_path / "all" / "a", "1.2.3")
    (tmp_path / "all" / "README.txt").write_text("about these")
    assert set(found(tmp_path, tmp_path / "all")) == {"1.2.3"}
    (tmp_path / "all" / "broken.dcm").write_bytes(b"DICM")
    assert set(found(tmp_path, tmp_path / "all")) == {"1.2.3", "all"}


def test_hidden_files_and_what_macs_add_to_archives_are_passed_over(tmp_path):
    folder = scan(tmp_path / "a", "1.2.3")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "1.dcm").write_bytes(b"x")
    assert found(tmp_path, folder)["1.2.3"].left_out == ()


def test_a_folder_that_holds_hidden_files_alone_is_an_empty_one_and_hidden_folders_are_none(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "b" / ".git" / "empty").mkdir(parents=True)
    series = found(tmp_path, tmp_path / "a", tmp_path / "b")
    assert {uid: one.folder for uid, one in series.items()} == {"a": tmp_path / "a", "b": tmp_path / "b"}


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    "hostile",
    ["../../outside.dcm", "/tmp-absolute.dcm", "a/../../b.dcm", "..\\b.dcm", "C:\\b.dcm", "c:b.dcm", "\\\\host\\b.dcm",
     link("link.dcm")],
    ids=str,
)  # fmt: skip
def test_an_archive_with_a_member_that_leaves_its_folder_is_refused_as_a_whole(tmp_path, hostile):
    scan(tmp_path / "good", "1.2.3")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        archive.write(tmp_path / "good" / "1.2.3-0.dcm", "x.dcm")
        archive.writestr(hostile, "/etc/passwd")
    before = set(tmp_path.rglob("*"))
    (series,) = found(tmp_path, tmp_path / "in" / "a.zip").values()
    assert series.files == () and len(series.left_out) == 1
    assert "a.zip: not unpacked, since 1 members are links or lie outside of it, the first: " in series.left_out[0]
    assert not [path for path in set(tmp_path.rglob("*")) - before if path.is_file()]
    assert not Path("/tmp-absolute.dcm").exists() and not (tmp_path.parent / "outside.dcm").exists()


def test_an_archive_that_grows_beyond_measure_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(5):
            archive.writestr(f"{i}.dcm", bytes(2**24))  # 80 MB that take 80 kB
    (series,) = found(tmp_path, tmp_path / "a.zip").values()
    assert "bytes would be 83886080, expected at most 67108864" in series.left_out[0]
    assert not [path for path in (tmp_path / "unpacked").rglob("*") if path.is_file()]


def test_a_member_that_is_larger_than_it_declares_does_not_get_more_room(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.dcm", bytes(10**8))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 10**8), struct.pack("<I", 1000)))
    (series,) = found(tmp_path, path).values()
    assert "cannot be unpacked" in series.left_out[0]
    assert sum(file.stat().st_size for file in (tmp_path / "unpacked").rglob("*") if file.is_file()) <= 1000


def test_an_archive_in_an_archive_is_not_opened(tmp_path):
    scan(tmp_path / "good", "1.2.3")
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as inner:
        inner.write(tmp_path / "good" / "1.2.3-0.dcm", "0.dcm")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(tmp_path / "inner.zip", "inner.zip")
        outer.write(tmp_path / "good" / "1.2.3-1.dcm", "1.dcm")
    (series,) = found(tmp_path, tmp_path / "outer.zip").values()
    assert [file.name for file in series.files] == ["1.dcm"]
    assert len(series.left_out) == 1 and "inner.zip" in series.left_out[0]


def test_an_archive_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.dcm", bytes(1000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 990, 10))
    (series,) = found(tmp_path, tmp_path / "a.zip").values()
    assert "GB when unpacked" in series.left_out[0] and not any((tmp_path / "unpacked").rglob("*.dcm"))


def test_files_without_a_series_uid_are_one_series_a_folder(tmp_path):
    for name in ("one", "two"):
        write_stack(tmp_path / name, PIXELS, spacing=(2.0, 1.0, 1.0), SeriesInstanceUID=None)
    series = found(tmp_path, tmp_path)
    assert set(series) == {"one", "two"} and read_series(series["two"]).uid == "two"


def test_files_of_several_studies_without_a_series_uid_are_told_apart_by_the_study(tmp_path):
    for study in ("1.5", "1.6"):
        for i in range(3):
            tags = {"SeriesInstanceUID": None, "StudyInstanceUID": study, "SOPInstanceUID": f"{study}.{i}"}
            write_image(
                tmp_path / "mixed" / f"{study}-{i}.dcm", PIXELS[i], **tags, ImagePositionPatient=[0, 0, 2.0 * i]
            )
    series = found(tmp_path, tmp_path / "mixed")
    assert {uid: len(one.files) for uid, one in series.items()} == {"1.5": 3, "1.6": 3}
