"""The DICOM writer: storage variants, quirks and multi-frame files, read back with pydicom."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from rle.rle import encode_frame

from aneurysm.phantom.dicom import Identity, frame_order, write_enhanced, write_slices
from aneurysm.phantom.encoding import make_uid, run_lengths
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.quirks import Quirks
from aneurysm.phantom.storage import draw_scale, store

CT = Identity(make_uid("series"), make_uid("patient"), "CT", 1.25)
MR = Identity(make_uid("series"), make_uid("patient"), "MR", 0.6)
GRID = Grid(
    np.array([-9.1, 4.25, -700.3]), np.array([0, 0, 0.7]), np.array([0, 0.6, 0]), np.array([0.5, 0, 0]), (9, 12, 10)
)


def numbered() -> np.ndarray:
    """(9, 12, 10) slice k holds 100 k and a gradient over its rows, so that order and turning show."""
    return (100 * np.arange(9)[:, None, None] + np.arange(12)[None, :, None] + np.zeros((1, 1, 10))).astype(np.float32)


def write(folder, quirks: Quirks, identity: Identity = MR, image: np.ndarray | None = None):
    image = numbered() if image is None else image
    stored = store(image, draw_scale(np.random.default_rng(0), image, quirks), quirks)
    return [pydicom.dcmread(folder / f"{uid}.dcm") for uid in write_slices(folder, stored, GRID, quirks, identity)]


def write_frames(folder, quirks: Quirks) -> tuple[pydicom.Dataset, np.ndarray]:
    stored = store(numbered(), draw_scale(np.random.default_rng(0), numbered(), quirks), quirks)
    uid, frames = write_enhanced(folder, stored, GRID, quirks, MR)
    return pydicom.dcmread(folder / f"{uid}.dcm"), frames


@pytest.mark.parametrize("syntax", [RLELossless, ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_pixels_and_positions_come_back_in_every_transfer_syntax(tmp_path, syntax):
    names = {RLELossless: "rle", ExplicitVRLittleEndian: "explicit", ImplicitVRLittleEndian: "implicit"}
    files = write(tmp_path, Quirks(syntax=names[syntax], storage="hu+1024"), CT)
    assert all(file.file_meta.TransferSyntaxUID == syntax for file in files)
    for k, file in enumerate(files):
        assert (file.pixel_array * file.RescaleSlope + file.RescaleIntercept == numbered()[k]).all()
        assert file.ImagePositionPatient == pytest.approx([-9.1, 4.25, -700.3 + 0.7 * k], abs=1e-9)
        assert list(file.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
        assert list(file.PixelSpacing) == [0.6, 0.5], "between rows first"
        assert (file.InstanceNumber, file.Modality, file.SOPClassUID.name) == (k + 1, "CT", "CT Image Storage")


@pytest.mark.parametrize(
    ("storage", "stored_at_40_hu", "intercept", "corner"),
    [("hu+1024", 1064, -1024, 1064), ("hu", 40, 0, 40), ("hu padded", 40, None, -2000), ("hu+8192", 8232, -8192, 8232),
     ("header lies", 40, -1024, -2000)],
)  # fmt: skip
def test_ct_values_are_stored_in_the_ways_of_the_competition(tmp_path, storage, stored_at_40_hu, intercept, corner):
    file = write(tmp_path, Quirks(storage=storage), CT, np.full((9, 12, 10), 40, np.float32))[4]
    assert file.pixel_array[6, 5] == stored_at_40_hu
    assert file.pixel_array[0, 0] in (corner, stored_at_40_hu)
    assert file.pixel_array.dtype == np.int16
    assert file.get("RescaleIntercept") == intercept


def test_twelve_bits_are_unsigned_and_hold_the_brightest_mr_value(tmp_path):
    image = numbered() * 50
    files = write(tmp_path, Quirks(storage="raw", bits=12), MR, image)
    assert (files[0].BitsStored, files[0].HighBit, files[0].PixelRepresentation) == (12, 11, 0)
    volume = np.stack([file.pixel_array for file in files])
    assert 2000 < volume.max() <= 4095
    assert np.corrcoef(volume.ravel(), image.ravel())[0, 1] > 0.999
    assert "RescaleSlope" not in files[0]


def test_the_file_metas_uid_may_differ_from_the_data_sets(tmp_path):
    for differs in (True, False):
        file = write(tmp_path, Quirks(storage="raw", other_meta_uid=differs))[0]
        assert (file.file_meta.MediaStorageSOPInstanceUID != file.SOPInstanceUID) == differs
        assert file.file_meta.MediaStorageSOPInstanceUID.is_valid


def test_instance_numbers_may_descend_and_the_spacing_tag_may_be_wrong_where_positions_are_right(tmp_path):
    files = write(tmp_path, Quirks(storage="raw", order="descending", wrong_spacing=True))
    assert [file.InstanceNumber for file in files] == list(range(9, 0, -1))
    assert float(files[0].SpacingBetweenSlices) == pytest.approx(25.2)
    assert files[3].ImagePositionPatient[2] - files[2].ImagePositionPatient[2] == pytest.approx(0.7)


def test_tags_may_be_missing(tmp_path):
    without_spacing = write(tmp_path, Quirks(storage="raw", missing="PixelSpacing"))[0]
    assert "PixelSpacing" not in without_spacing and "ImagePositionPatient" in without_spacing
    without_position = write(tmp_path, Quirks(storage="raw", missing="position"))[0]
    assert "ImagePositionPatient" not in without_position and "ImageOrientationPatient" not in without_position
    assert "PixelSpacing" in without_position


def test_monochrome1_stores_bright_as_low(tmp_path):
    plain, inverted = (
        write(tmp_path, Quirks(storage="raw", inverted=i))[8].pixel_array.astype(int) for i in (False, True)
    )
    assert (plain + inverted == plain[-1, 0] + inverted[-1, 0]).all()
    assert inverted[0, 0] > inverted[-1, 0]


@pytest.mark.parametrize("order", ["ascending", "descending", "interleaved"])
@pytest.mark.parametrize("syntax", ["rle", "explicit"])
def test_an_enhanced_file_says_in_its_groups_where_each_frame_lies(tmp_path, order, syntax):
    file, frames = write_frames(tmp_path, Quirks(syntax=syntax, storage="raw", enhanced="groups", order=order))
    pixels = file.pixel_array
    assert pixels.shape == (9, 12, 10) and file.NumberOfFrames == 9
    assert (np.diff(pixels[frames, 0, 0].astype(int)) > 0).all(), "slice k is in frame frames[k]"
    for k in (0, 3, 8):
        group = file.PerFrameFunctionalGroupsSequence[frames[k]]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert position == pytest.approx([-9.1, 4.25, -700.3 + 0.7 * k], abs=1e-9)
    shared = file.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.6, 0.5]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert "ImagePositionPatient" not in file and "PixelSpacing" not in file


def test_an_enhanced_file_may_have_rewritten_positions_or_none(tmp_path):
    file, frames = write_frames(tmp_path, Quirks(storage="raw", enhanced="rewritten", order="descending"))
    groups = file.PerFrameFunctionalGroupsSequence
    assert [g.PlanePositionSequence[0].ImagePositionPatient[2] for g in groups] == pytest.approx(0.7 * frames)
    assert "SharedFunctionalGroupsSequence" not in file
    bare, _ = write_frames(tmp_path, Quirks(storage="raw", enhanced="bare", uncounted=True))
    assert "PerFrameFunctionalGroupsSequence" not in bare and "NumberOfFrames" not in bare
    assert len(bare.PixelData) == 9 * 12 * 10 * 2


def test_interleaved_frames_hold_every_second_slice_first():
    assert frame_order(5, "interleaved").tolist() == [0, 2, 4, 1, 3]


@pytest.mark.parametrize("columns", [10, 128, 131, 300])
def test_run_lengths_are_those_of_pylibjpeg(columns):
    frame = np.random.default_rng(0).integers(-5, 5, (40, columns)).astype("<i2")
    frame[5:20, 3:9] = 1000
    assert run_lengths(frame) == bytes(encode_frame(frame.tobytes(), 40, columns, 1, 16, "<"))


def test_uids_are_valid_and_depend_on_their_parts_alone():
    uids = [make_uid("phantom", 0, i) for i in range(500)]
    assert len(set(uids)) == 500 and uids == [make_uid("phantom", 0, i) for i in range(500)]
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 64 for uid in uids)
    assert len({uid[26] for uid in uids}) == 9
