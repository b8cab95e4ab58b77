"""What the reader promises of any folder of DICOM files, one clause at a time, on synthetic series."""

from __future__ import annotations

import os
import threading
import time

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from aneurysm.data import series as series_module
from aneurysm.data.intensity import Window
from aneurysm.data.series import read_series
from aneurysm.data.slices import cached_slices
from tests.dicom_writer import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    SERIES_UID,
    transcode,
    write_enhanced,
    write_image,
    write_stack,
)

GDCM_SYNTAXES = ("JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")


def ramp(shape: tuple[int, int, int], dtype: type = np.int16, start: int = 0) -> np.ndarray:
    """Different values in every pixel of every slice."""
    return (np.arange(np.prod(shape)).reshape(shape) + start).astype(dtype)


def said(series: series_module.Series, text: str) -> bool:
    return any(text in warning for warning in series.warnings)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
    ],
)
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_every_syntax_of_pydicom_gives_the_stored_pixels(tmp_path, syntax, dtype):
    volume = ramp((3, 40, 50), dtype, start=-500 if dtype is np.int16 else 60000 - 6000)
    write_stack(tmp_path, volume, syntax=syntax, Modality="MR")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert series.warnings == []


@pytest.mark.parametrize("name", GDCM_SYNTAXES)
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
def test_every_syntax_of_gdcm_gives_the_stored_pixels(tmp_path, name, dtype):
    volume = ramp((2, 40, 50), dtype, start=-500 if dtype is np.int16 else 0)
    write_stack(tmp_path, volume, Modality="MR")
    for path in tmp_path.iterdir():
        transcode(path, getattr(gdcm.TransferSyntax, name))
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume)


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
        assert said(series, text)


def test_frames_are_found_by_the_length_of_the_pixels_where_their_number_is_absent(tmp_path):
    volume = ramp((5, 6, 8))
    write_enhanced(tmp_path / "a.dcm", volume, geometry="none", NumberOfFrames=None)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume)


def test_encapsulated_frames_are_found_where_their_number_is_absent(tmp_path):
    volume = ramp((5, 40, 50))
    path = write_enhanced(tmp_path / "a.dcm", volume, syntax=RLELossless)
    dataset = pydicom.dcmread(path)
    del dataset.NumberOfFrames, dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
    dataset.save_as(path)
    np.testing.assert_array_equal(read_series(path).pixels, volume)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_compressed_multi_frame_file_gives_each_frame(tmp_path, syntax):
    volume = ramp((5, 40, 50))
    write_enhanced(tmp_path / "a.dcm", volume, syntax=syntax)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume)
    np.testing.assert_array_equal(read_series(tmp_path, select=[3, 1]).pixels, volume[[3, 1]])


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
    assert all(said(series, name) for name in ("README.txt", "empty", "DICOMDIR", "3 files left out"))


def test_an_image_without_pixels_is_left_out_and_named(tmp_path):
    write_stack(tmp_path, ramp((4, 6, 8)))
    for name, syntax in (("plain.dcm", ExplicitVRLittleEndian), ("packed.dcm", RLELossless)):
        dataset = pydicom.dcmread(tmp_path / "900.dcm")
        del dataset.PixelData
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / name)
    series = read_series(tmp_path)
    assert series.geometry.shape == (4, 6, 8)
    assert said(series, "plain.dcm") and said(series, "packed.dcm")


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


@pytest.mark.parametrize(
    "odd",
    [
        {"ImageOrientationPatient": list(SAGITTAL)},
        {"ImageOrientationPatient": list(CORONAL)},
        {"PixelSpacing": [2, 2]},
        {"SeriesInstanceUID": "1.2.3"},
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
    ],
)
def test_the_largest_consistent_group_is_kept_and_the_rest_named(tmp_path, odd):
    volume = ramp((5, 12, 14))
    write_stack(tmp_path / "main", volume)
    for i in range(3):  # sorts before the others, so that being first does not decide
        tags = {"ImagePositionPatient": [i, i, i], "SOPInstanceUID": f"9.{i}"} | odd
        write_image(tmp_path / "a" / f"scout{i}.dcm", volume[i], **tags)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert said(series, "3 of 8 images left out") and said(series, "scout1.dcm")


def test_images_of_another_size_are_left_out(tmp_path):
    volume = ramp((3, 12, 14))
    write_stack(tmp_path, volume)
    write_image(tmp_path / "scout", ramp((1, 30, 20))[0])
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert said(series, "scout")


def test_of_repeated_positions_the_first_in_time_is_kept_everywhere(tmp_path):
    early, late = ramp((4, 6, 8)), ramp((4, 6, 8), start=1000)
    noise_mm = [0.0, 3e-4, -3e-4, 2e-4]  # positions written with few digits differ a little between time points
    for name, volume, time_point, sign in (("b", early, 1, 1), ("a", late, 2, -1)):
        tags = [
            {
                "TemporalPositionIdentifier": time_point,
                "ImagePositionPatient": [0, 0, 5 * i + sign * noise_mm[i]],
                "SOPInstanceUID": f"{time_point}.{i}",
                "InstanceNumber": 10 - i,
            }
            for i in range(4)
        ]
        write_stack(tmp_path / name, volume, each=lambda i, tags=tags: tags[i], Modality="MR")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, early)
    assert said(series, "4 images repeat the position of another")
    assert [frame.sop_uid for frame in series.frames] == ["1.0", "1.1", "1.2", "1.3"]
    # a localizer on an image that was left out lands on the one that stands for it
    assert [series.to_cache(3, 2, f"2.{i}") for i in range(4)] == [series.to_cache(3, 2, f"1.{i}") for i in range(4)]


def test_a_multi_frame_file_of_two_time_points_keeps_the_first(tmp_path):
    volume = ramp((6, 8, 8))
    path = write_enhanced(tmp_path / "a.dcm", volume)
    dataset = pydicom.dcmread(path)
    for i, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):  # frames 0, 2, 4 are the second time point
        item.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5 * (i // 2)]
        item.FrameContentSequence[0].TemporalPositionIndex = 2 - i % 2
    dataset.save_as(path)
    series = read_series(path)
    np.testing.assert_array_equal(series.pixels, volume[1::2])
    assert series.to_cache(1, 1, series.frames[0].sop_uid, 4)[2] == 2


def test_gantry_tilt_keeps_all_slices_and_is_said(tmp_path):
    volume = ramp((5, 6, 8))
    tilt = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    write_stack(tmp_path, volume, orientation, each=lambda i: {"ImagePositionPatient": [0, 0, 4 * i]})
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert series.geometry.spacing[0] == pytest.approx(4 * np.cos(tilt))
    assert said(series, "gantry tilt of 20.0 degrees")


def test_uneven_gaps_keep_every_slice_at_its_own_position(tmp_path):
    z = [0, 1, 2, 7, 8, 9.5]
    volume = ramp((6, 6, 8))
    write_stack(tmp_path, volume, each=lambda i: {"ImagePositionPatient": [0, 0, z[i]]})
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    np.testing.assert_allclose(series.geometry.slice_positions_mm(), z)
    assert said(series, "unevenly spaced") and series.geometry.spacing[0] == 1


def test_positions_win_over_a_wrong_gap_in_the_header(tmp_path):
    write_stack(tmp_path, ramp((4, 6, 8)), spacing=(0.498, 1, 1), SpacingBetweenSlices=18, SliceThickness=1)
    series = read_series(tmp_path)
    assert series.geometry.spacing[0] == pytest.approx(0.498)
    assert said(series, "18")


def test_without_positions_slices_follow_the_instance_numbers(tmp_path):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, ImagePositionPatient=None, SpacingBetweenSlices=1.25)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    np.testing.assert_allclose(np.diff(series.geometry.positions, axis=0), [[0, 0, 1.25]] * 3)
    assert said(series, "positions missing")


def test_without_positions_and_numbers_slices_follow_the_names(tmp_path):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, ImagePositionPatient=None, InstanceNumber=None)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, volume[::-1])


def test_slices_all_at_one_position_are_kept_by_number_with_a_warning(tmp_path):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, ImagePositionPatient=[1, 2, 3])
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert said(series, "lie at one position")


@pytest.mark.parametrize(("axis", "plane"), [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_a_missing_orientation_is_taken_from_the_way_the_positions_move(tmp_path, axis, plane):
    def position(i: int) -> dict:
        return {"ImagePositionPatient": [5.0 * i * (a == axis) for a in range(3)]}

    write_stack(tmp_path, ramp((4, 6, 8)), ImageOrientationPatient=None, each=position)
    series = read_series(tmp_path)
    assert series.geometry.plane == plane
    assert said(series, "orientation missing")


@pytest.mark.parametrize("orientation", [[0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0]])
def test_an_orientation_that_cannot_be_is_not_believed(tmp_path, orientation):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, ImageOrientationPatient=orientation)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert said(series, "orientation")


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("signed", [False, True])
def test_any_number_of_stored_bits_is_read_and_old_overlays_above_them_are_dropped(tmp_path, bits, signed):
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = np.linspace(low, high, 48).round().astype(np.int64).reshape(1, 6, 8)
    overlay = (1 << bits) if bits < 16 else 0
    stored = np.where(np.arange(8) % 2, values & ((1 << bits) - 1), (values & ((1 << bits) - 1)) | overlay)
    tags = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed), "Modality": "MR"}
    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian, *([RLELossless] if bits > 8 else [])):
        folder = tmp_path / syntax
        write_stack(folder, stored.astype(np.uint16), syntax=syntax, **tags)
        np.testing.assert_array_equal(read_series(folder).pixels, values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int32])
def test_pixels_of_8_and_32_bits_are_read(tmp_path, dtype):
    volume = ramp((2, 7, 9), dtype)  # an odd number of bytes a slice, which DICOM pads to an even one
    encodings = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, *([RLELossless] if volume.itemsize == 1 else []))
    for syntax in encodings:
        write_stack(tmp_path / syntax, volume, syntax=syntax, Modality="MR")
        np.testing.assert_array_equal(read_series(tmp_path / syntax).pixels, volume)


def test_a_slope_other_than_1_is_used_on_mr(tmp_path):
    volume = ramp((3, 6, 8))
    write_stack(tmp_path, volume, Modality="MR", RescaleSlope="2.5", RescaleIntercept="-3")
    np.testing.assert_allclose(read_series(tmp_path).pixels, volume * 2.5 - 3)


@pytest.mark.parametrize("photometric", ["RGB", "PALETTE COLOR", "YBR_FULL"])
def test_colour_is_refused_with_a_reason(tmp_path, photometric):
    samples = 1 if photometric == "PALETTE COLOR" else 3
    tags = {"PhotometricInterpretation": photometric, "SamplesPerPixel": samples, "PlanarConfiguration": 0}
    write_image(tmp_path / "capture.dcm", np.zeros((6, 18), np.uint8), **tags, Columns=6)
    with pytest.raises(ValueError, match=rf"capture.dcm: expected grey values, found colour \({photometric}\)"):
        read_series(tmp_path)


def test_a_colour_capture_beside_a_series_is_left_out_and_named(tmp_path):
    volume = ramp((3, 6, 8))
    write_stack(tmp_path, volume)
    write_image(tmp_path / "capture", np.zeros((6, 24), np.uint8), PhotometricInterpretation="RGB", SamplesPerPixel=3)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.pixels, volume)
    assert said(series, "capture") and said(series, "RGB")


@pytest.mark.parametrize("select", [[], [2], [3, 0], (n for n in (1, 1))])
def test_select_decodes_only_the_slices_asked_for(tmp_path, monkeypatch, select):
    volume, decoded, original = ramp((6, 6, 8)), [], series_module.decode_frame
    write_stack(tmp_path, volume)
    select = list(select)

    def counting(frame):
        decoded.append(frame.sop_uid)
        return original(frame)

    monkeypatch.setattr(series_module, "decode_frame", counting)
    series = read_series(tmp_path, select=select)
    assert decoded == [f"{SERIES_UID}.{i + 1}" for i in select]
    assert series.geometry.shape == (6, 6, 8)
    if select:
        np.testing.assert_array_equal(series.pixels, volume[select])
    else:
        assert series.pixels is None


def test_select_counts_canonical_slices(tmp_path):
    volume = ramp((6, 6, 8))
    write_stack(tmp_path, volume, orientation=(1, 0, 0, 0, -1, 0))  # rows to the front: the normal points down
    series = read_series(tmp_path, select=[0, 4])
    np.testing.assert_array_equal(series.pixels, volume[[5, 1], ::-1])


def test_threads_decode_at_the_same_time_and_give_the_same_pixels(tmp_path, monkeypatch):
    volume, running, most, lock = ramp((12, 6, 8)), [], [], threading.Lock()
    write_stack(tmp_path, volume)
    original = series_module.decode_frame

    def slow(frame):
        with lock:
            running.append(frame)
            most.append(len(running))
        time.sleep(0.02)
        with lock:
            running.remove(frame)
        return original(frame)

    monkeypatch.setattr(series_module, "decode_frame", slow)
    np.testing.assert_array_equal(read_series(tmp_path, threads=4).pixels, volume)
    assert 1 < max(most) <= 4


def test_an_uncompressed_slice_that_is_cut_short_is_left_out_and_named(tmp_path):
    volume = ramp((4, 40, 50))
    write_stack(tmp_path, volume, Modality="MR")
    path = tmp_path / "898.dcm"  # slice 2
    os.truncate(path, path.stat().st_size - 1500)
    series = read_series(tmp_path)
    assert said(series, "898.dcm")
    np.testing.assert_array_equal(series.pixels, volume[[0, 1, 3]])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_compressed_slice_that_is_cut_short_is_blank_and_named(tmp_path, syntax):
    noise = np.random.default_rng(0).integers(1, 4000, (4, 40, 50))
    volume = noise.astype(np.uint16)
    write_stack(tmp_path, volume, syntax=syntax, Modality="MR")
    path = tmp_path / "898.dcm"  # slice 2
    os.truncate(path, path.stat().st_size - 1500)
    series = read_series(tmp_path)
    assert said(series, "898.dcm")
    np.testing.assert_array_equal(series.pixels[[0, 1, 3]], volume[[0, 1, 3]])
    assert series.pixels[2].max() == 0


def test_a_blank_slice_of_a_resliced_unsigned_ct_is_air(tmp_path):
    volume = ramp((6, 40, 50), np.uint16, start=500)
    write_stack(tmp_path, volume, CORONAL, (1, 1, 1), syntax=RLELossless, RescaleIntercept=-1024, RescaleSlope=1)
    path = tmp_path / "898.dcm"  # slice 2 from the front
    os.truncate(path, path.stat().st_size - 1500)
    series = read_series(tmp_path)
    assert series.geometry.resliced
    assert series.pixels[:, 2].max() <= -1000
    np.testing.assert_array_equal(series.pixels[:, 3], volume[3, ::-1] - 1024.0)


def test_slices_stored_signed_and_unsigned_may_be_mixed_in_a_resliced_series(tmp_path):
    values = ramp((4, 6, 8), np.int32, start=-20)
    values[2] += 40000

    def representation(i: int) -> dict:
        return {"PixelRepresentation": int(i != 2)}

    write_stack(tmp_path, values.astype(np.uint16), CORONAL, (1, 1, 1), each=representation, Modality="MR")
    np.testing.assert_array_equal(read_series(tmp_path).pixels, values.transpose(1, 0, 2)[::-1])


def test_a_series_of_which_no_slice_can_be_decoded_is_refused_by_name(tmp_path):
    write_stack(tmp_path, ramp((3, 40, 50)), syntax=RLELossless)
    for path in tmp_path.iterdir():
        os.truncate(path, path.stat().st_size - 1500)
    with pytest.raises(ValueError, match=str(tmp_path)):
        read_series(tmp_path)


def test_a_single_image_is_a_series_of_one_slice(tmp_path):
    path = write_image(tmp_path / "one.dcm", ramp((1, 6, 8))[0], SliceThickness=3, ImagePositionPatient=[1, 2, 3])
    series = read_series(path)
    assert series.geometry.canonical_spacing == (3, 1, 1)
    assert series.geometry.slice_positions_mm().tolist() == [3]


def test_the_data_sets_own_sop_uid_counts(tmp_path):
    write_image(tmp_path / "one.dcm", ramp((1, 6, 8))[0], SOPInstanceUID="1.2.9")  # the file meta says 1.2.3.4
    assert read_series(tmp_path).frames[0].sop_uid == "1.2.9"


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (AXIAL, lambda v: v),
        ((-1, 0, 0, 0, 1, 0), lambda v: v[::-1, :, ::-1]),
        ((1, 0, 0, 0, -1, 0), lambda v: v[::-1, ::-1]),
        ((-1, 0, 0, 0, -1, 0), lambda v: v[:, ::-1, ::-1]),
        ((0, 1, 0, 1, 0, 0), lambda v: v[::-1].transpose(0, 2, 1)),
        (CORONAL, lambda v: v),
        ((-1, 0, 0, 0, 0, -1), lambda v: v[::-1, :, ::-1]),
        ((1, 0, 0, 0, 0, 1), lambda v: v[::-1, ::-1]),
        (SAGITTAL, lambda v: v[::-1]),  # back, then down: the normal points to the right
        ((0, -1, 0, 0, 0, -1), lambda v: v[:, :, ::-1]),
    ],
)
def test_thick_stacks_are_turned_to_the_orientation_of_their_plane(tmp_path, orientation, turn):
    volume = ramp((3, 6, 8))
    write_stack(tmp_path, volume, orientation)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, turn(volume))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (CORONAL, lambda v: v.transpose(1, 0, 2)[::-1]),
        (SAGITTAL, lambda v: v.transpose(1, 2, 0)[::-1, :, ::-1]),
        ((0, -1, 0, 0, 0, -1), lambda v: v.transpose(1, 2, 0)[::-1, ::-1]),
    ],
)
def test_thin_stacks_are_resliced_to_axial(tmp_path, orientation, turn):
    volume = ramp((4, 6, 8))
    write_stack(tmp_path, volume, orientation, (1.0, 1, 1))
    series = read_series(tmp_path, select=[1, 5, 0])
    assert series.geometry.plane == "axial"
    np.testing.assert_array_equal(series.pixels, turn(volume)[[1, 5, 0]])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_a_cached_slice_is_the_image_itself_where_nothing_has_to_be_resized(tmp_path, syntax):
    volume = ramp((1, 512, 512), np.uint16)
    write_stack(tmp_path, volume, syntax=syntax, Modality="MR")
    series = read_series(tmp_path, select=())
    image = next(cached_slices(series, Window(0, 65535), [0]))
    np.testing.assert_allclose(image, volume[0] / 65535, atol=5e-4)
