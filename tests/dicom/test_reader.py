"""What the reader makes of files, folders and functional groups, one promise at a time, on synthetic series."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    RLELossless,
)

from aneurysm.dicom.series import read_series
from tests.dicom_writer import (
    CORONAL,
    ramp,
    warned,
    write_enhanced,
    write_image,
    write_stack,
)


def test_an_enhanced_file_takes_geometry_and_rescale_from_its_groups(tmp_path):
    volume = ramp((4, 20, 30))
    path = write_enhanced(
        tmp_path / "a.dcm",
        volume,
        spacing=(1.5, 0.4, 0.6),
        first=(7, -8, 9),
        geometry="groups",
        rescale=lambda i: (i + 1, 10 * i),
    )
    series = read_series(path)
    assert series.geometry.spacing == pytest.approx((1.5, 0.4, 0.6))
    np.testing.assert_allclose(series.geometry.positions, [[7, -8, 9 + 1.5 * i] for i in range(4)])
    np.testing.assert_allclose(series.pixels, [volume[i] * (i + 1.0) + 10 * i for i in range(4)])
    assert [frame.index for frame in series.frames] == [0, 1, 2, 3]
    assert series.warnings == []


def test_an_enhanced_file_may_hold_all_geometry_per_frame(tmp_path):
    write_enhanced(tmp_path / "a.dcm", ramp((4, 20, 30)), CORONAL, (3.0, 0.4, 0.6), (1, 2, 3), geometry="per frame")
    series = read_series(tmp_path)
    assert (series.geometry.plane, series.warnings) == ("coronal", [])
    # the normal of the coronal orientation (left, then down) points to the back, as the canonical slices do
    np.testing.assert_allclose(series.geometry.positions, [[1, 2 + 3 * i, 3] for i in range(4)])
    assert series.geometry.spacing == pytest.approx((3.0, 0.4, 0.6))


@pytest.mark.parametrize(("n_frames", "gap_mm"), [(80, 5.0), (81, 0.55)])
def test_an_enhanced_file_without_geometry_gets_the_fallback_spacing_and_warnings(tmp_path, n_frames, gap_mm):
    volume = ramp((n_frames, 4, 4))
    series = read_series(write_enhanced(tmp_path / "a.dcm", volume, geometry="none"))
    assert series.geometry.spacing == pytest.approx((gap_mm, 0.5, 0.5))
    np.testing.assert_array_equal(series.pixels, volume)
    for text in ("orientation missing", "positions missing", "pixel spacing missing", "distance between slices"):
        assert warned(series, text)


def test_frames_are_found_by_the_length_of_the_pixels_where_their_number_is_absent(tmp_path):
    volume = ramp((5, 6, 8))
    write_enhanced(tmp_path / "a.dcm", volume, geometry="none", NumberOfFrames=None)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume)


def test_a_frames_own_group_wins_over_the_shared_one_and_that_over_the_top_of_the_file(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", ramp((2, 4, 4)), geometry="groups", spacing=(2, 0.7, 0.7))
    dataset = pydicom.dcmread(path)
    dataset.PixelSpacing = [9, 9]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence = [pydicom.Dataset()]
    shared.PixelValueTransformationSequence[0].RescaleSlope = 5
    shared.PixelValueTransformationSequence[0].RescaleIntercept = 0
    own = dataset.PerFrameFunctionalGroupsSequence[1]
    own.PixelValueTransformationSequence = [pydicom.Dataset()]
    own.PixelValueTransformationSequence[0].RescaleSlope = 3
    own.PixelValueTransformationSequence[0].RescaleIntercept = 1
    dataset.save_as(path)
    series = read_series(path)
    assert series.geometry.spacing[1:] == (0.7, 0.7)
    assert series.pixels[:, 0, 1].tolist() == [5.0, 3 * 17 + 1.0]


def test_names_and_folders_of_the_files_do_not_matter(tmp_path):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume)
    names = ("IM0001", "a/b/c/image.ima", "a/000", "x.dcm.bak")
    for path, name in zip(sorted(tmp_path.glob("*.dcm")), names, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / name)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert series.warnings == []


def test_a_series_without_a_uid_is_named_by_its_folder(tmp_path):
    write_stack(tmp_path / "1.2.34", ramp((3, 6, 8)), SeriesInstanceUID=None)
    assert read_series(tmp_path / "1.2.34").uid == "1.2.34"


def test_what_is_no_image_is_left_out_and_named(tmp_path):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume)
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    no_pixels = pydicom.dcmread(tmp_path / "900.dcm")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(no_pixels, name)
    no_pixels.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"  # media storage directory
    no_pixels.save_as(tmp_path / "DICOMDIR")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert all(warned(series, name) for name in ("README.txt", "empty", "DICOMDIR", "3 files left out"))


def test_an_image_without_pixels_is_left_out_and_named(tmp_path):
    write_stack(tmp_path, ramp((4, 6, 8)))
    for name, syntax in (("plain.dcm", ExplicitVRLittleEndian), ("packed.dcm", RLELossless)):
        dataset = pydicom.dcmread(tmp_path / "900.dcm")
        del dataset.PixelData
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / name)
    series = read_series(tmp_path)
    assert series.geometry.shape == (4, 6, 8)
    assert warned(series, "plain.dcm") and warned(series, "packed.dcm")


@pytest.mark.parametrize("content", ["nothing", "a text", "an empty folder", "a path that is not there"])
def test_a_folder_without_images_is_refused_by_name(tmp_path, content):
    folder = tmp_path / "series"
    if content != "a path that is not there":
        folder.mkdir()
    if content == "a text":
        (folder / "notes.txt").write_text("no image")
    if content == "an empty folder":
        (folder / "below").mkdir()
    with pytest.raises(ValueError, match=str(folder)):
        read_series(folder)


def test_a_single_image_is_a_series_of_one_slice(tmp_path):
    path = write_image(tmp_path / "one.dcm", ramp((1, 6, 8))[0], SliceThickness=3, ImagePositionPatient=[1, 2, 3])
    series = read_series(path)
    assert series.geometry.canonical_spacing == (3, 1, 1)
    assert series.geometry.slice_positions_mm().tolist() == [3]


def test_the_data_sets_own_sop_uid_counts(tmp_path):
    write_image(tmp_path / "one.dcm", ramp((1, 6, 8))[0], SOPInstanceUID="1.2.9")  # the file meta says 1.2.3.4
    assert read_series(tmp_path).frames[0].sop_uid == "1.2.9"


def test_an_empty_element_of_an_unknown_type_is_one_that_is_not_there(tmp_path):
    path = write_image(tmp_path / "a.dcm", np.arange(64, dtype=np.int16).reshape(8, 8), ImageComments="x" * 5000)
    data = path.read_bytes()
    assert data.count(b"\x20\x00\x13\x00IS\x02\x001 ") == 1
    path.write_bytes(data.replace(b"\x20\x00\x13\x00IS\x02\x001 ", b"\x20\x00\x13\x00I\xb6\x00\x00"))
    series = read_series(path)
    assert series.pixels.tolist() == [np.arange(64).reshape(8, 8).tolist()] and series.frames[0].instance is None


def test_a_procedure_code_that_cannot_be_read_is_none(tmp_path):
    code = pydicom.Dataset()
    code.CodeValue, code.CodeMeaning = "1", ""
    tags = {"Modality": "CT", "ContrastBolusAgent": "yes", "ProcedureCodeSequence": [code]}
    path = write_image(tmp_path / "a.dcm", np.arange(64, dtype=np.int16).reshape(8, 8), **tags)
    data = path.read_bytes()
    assert data.count(b"\x08\x00\x04\x01LO\0\0") == 1
    path.write_bytes(data.replace(b"\x08\x00\x04\x01LO\0\0", b"\x08\x00\x04\x01L\xe1\0\0"))
    assert read_series(path).type == "CTA"
