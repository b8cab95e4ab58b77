"""Faults that users of neighbouring tools have reported, each on an input made here; docs/reports.md names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from aneurysm.dicom.series import read_series
from tests.dicom_writer import CORONAL, ramp, warned, write_enhanced, write_image, write_stack

N = 12
VOLUME = ramp((N, 6, 8))
MR = {"Modality": "MR"}


def read_stack(folder: Path, each=lambda i: {}, volume: np.ndarray = VOLUME, **tags):
    write_stack(folder, volume, each=each, **tags)
    return read_series(folder)


def test_dcm2niix_168_equal_times_and_numbers_are_no_duplicates_where_positions_differ(tmp_path):
    tags = [{"InstanceNumber": i // 2, "AcquisitionTime": "101010", "AcquisitionNumber": 1} for i in range(N)]
    series = read_stack(tmp_path, tags.__getitem__, **MR)
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert series.warnings == []


def test_dcm2niix_839_three_stacks_of_one_file_that_lie_between_one_another_are_one_volume(tmp_path):
    order = [*range(0, N, 3), *range(1, N, 3), *range(2, N, 3)]
    path = write_enhanced(tmp_path / "e.dcm", VOLUME[order])
    dataset = pydicom.dcmread(path)
    for frame, (place, group) in enumerate(zip(order, dataset.PerFrameFunctionalGroupsSequence, strict=True)):
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5 * place]
        content = group.FrameContentSequence[0]
        content.StackID, content.InStackPositionNumber = str(frame // 4 + 1), frame % 4 + 1
    dataset.save_as(path)
    series = read_series(path)
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert series.warnings == []


@pytest.mark.parametrize(
    "order", [[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11], list(range(N))[::-1], [3, 0, 9, 6, 1, 4, 7, 10, 2, 5, 8, 11]]
)
def test_dcm2niix_637_698_786_numbers_that_are_not_spatial_do_not_order_slices(tmp_path, order):
    series = read_stack(tmp_path, lambda i: {"InstanceNumber": order.index(i) + 1})
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert series.warnings == []


def test_dcm2niix_529_cornerstone3d_555_of_a_dynamic_scan_in_indirect_order_one_time_is_kept(tmp_path):
    for time in (1, 2, 3):
        tags = [{"TemporalPositionIdentifier": time, "InstanceNumber": 100 * time + (7 * i) % N} for i in range(N)]
        each = [own | {"SOPInstanceUID": f"1.{time}.{i}"} for i, own in enumerate(tags)]
        write_stack(tmp_path / str(time), VOLUME + np.int16(1000 * (time - 1)), each=each.__getitem__, **MR)
    np.testing.assert_array_equal(read_series(tmp_path).pixels, VOLUME)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_simpleitk_1636_1205_imagemagick_477_imagej_51_fractional_slopes_of_each_slice_are_used_whole(tmp_path, dtype):
    slopes = [round(0.9999999975 if i == 0 else 0.25 * i, 10) for i in range(N)]
    each = [{"RescaleSlope": slopes[i], "RescaleIntercept": -4.5} for i in range(N)]
    series = read_stack(tmp_path, each.__getitem__, VOLUME.astype(dtype), **MR)
    np.testing.assert_allclose(series.pixels, VOLUME * np.array(slopes)[:, None, None] - 4.5, rtol=1e-6)


def test_imagej_90_rescale_is_found_in_the_groups_of_a_multi_frame_file(tmp_path):
    path = write_enhanced(tmp_path / "e.dcm", VOLUME, rescale=lambda i: (0.5, -2048.0))
    np.testing.assert_allclose(read_series(path).pixels, VOLUME * 0.5 - 2048)


@pytest.mark.parametrize("gap_mm", [-5, 5, 1])
def test_slicer_7987_a_negative_or_wrong_spacing_between_slices_turns_nothing(tmp_path, gap_mm):
    series = read_stack(tmp_path, SpacingBetweenSlices=gap_mm)
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert series.geometry.spacing[0] == 5


@pytest.mark.parametrize("tag", ["SpacingBetweenSlices", "SliceThickness"])
def test_slicer_6773_7496_a_multi_frame_file_without_positions_has_the_spacing_that_it_says(tmp_path, tag):
    series = read_series(write_enhanced(tmp_path / "e.dcm", VOLUME, geometry="none", **{tag: 0.3}))
    assert series.geometry.spacing[0] == pytest.approx(0.3) and warned(series, "image positions missing")


def test_slicer_1007_of_mixed_orientations_the_largest_stack_is_kept(tmp_path):
    write_stack(tmp_path / "a", VOLUME[:3], CORONAL, each=lambda i: {"SOPInstanceUID": f"9.{i}"})
    series = read_stack(tmp_path)
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert warned(series, "3 of 15 images left out, of another series, size, orientation")


def test_panimg_7_dcmstack_55_a_missing_slice_is_said(tmp_path):
    write_stack(tmp_path, VOLUME)
    (tmp_path / "895.dcm").unlink()
    assert warned(read_series(tmp_path), "5 mm are missing in gaps larger than the usual 5 mm")


@pytest.mark.parametrize("extra", [1, 2, 1000])
def test_pydicom_599_796_padding_after_the_pixels_is_passed_over(tmp_path, extra):
    image = ramp((1, 7, 9), np.uint8)[0]
    path = write_image(tmp_path / "a.dcm", image, **MR)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = image.tobytes() + b"\0" * (extra + (63 + extra) % 2)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_series(path).pixels[0], image)


def test_pydicom_1149_a_jpeg_2000_whose_sign_is_not_that_of_the_header_is_read_as_pydicom_does(tmp_path):
    image = (np.arange(48 * 48).reshape(48, 48) % 4000).astype(np.uint16)
    tags = {"BitsStored": 13, "HighBit": 12, "PixelRepresentation": 0} | MR
    path = write_image(tmp_path / "a.dcm", image, JPEG2000Lossless, **tags)
    dataset = pydicom.dcmread(path)
    dataset.PixelRepresentation = 1
    dataset.save_as(path)
    np.testing.assert_array_equal(read_series(path).pixels[0], pydicom.dcmread(path).pixel_array)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_dicom_rs_460_the_padding_value_has_the_sign_of_the_pixels(tmp_path, syntax):
    volume = VOLUME.copy()
    volume[:, 0] = -2000
    series = read_stack(tmp_path, volume=volume, syntax=syntax, PixelPaddingValue=-2000, **MR)
    assert (series.pixels[:, 0] == series.pixels[:, 1:].min(axis=(1, 2))[:, None]).all()


def test_vtk_dicom_220_passes_that_overlap_are_not_pressed_into_one_another(tmp_path):
    first = [{"AcquisitionNumber": 1, "InstanceNumber": i + 1, "SOPInstanceUID": f"1.1.{i}"} for i in range(N)]
    second = [{"AcquisitionNumber": 2, "InstanceNumber": 101 + i, "SOPInstanceUID": f"1.2.{i}"} for i in range(N)]
    write_stack(tmp_path / "a", VOLUME, each=first.__getitem__, **MR)
    write_stack(tmp_path / "b", VOLUME + np.int16(1000), first=(0, 0, 47.0), each=second.__getitem__, **MR)
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / "a" / f"b{path.name}")
    series = read_series(tmp_path / "a")
    z = series.geometry.slice_positions_mm()
    assert z[:N].tolist() == [5.0 * i for i in range(N)]  # the first pass whole, then what the second adds
    assert z[N:].tolist() == [57.0 + 5 * i for i in range(10)] and warned(series, "2 images repeat the position")


def test_dicom2nifti_36_rounded_positions_are_even(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.004, N)
    series = read_stack(tmp_path, lambda i: {"ImagePositionPatient": [0, 0, round(5 * i + noise[i], 3)]})
    assert series.warnings == [] and series.n_slices == N


def test_dicom2nifti_58_two_distances_in_one_head_are_kept_and_said(tmp_path):
    z = [2.5 * i for i in range(6)] + [12.5 + 7.5 * i for i in range(1, 7)]
    each = [{"ImagePositionPatient": [0, 0, z[i]], "AcquisitionNumber": 1 + i // 6} for i in range(N)]
    series = read_stack(tmp_path, each.__getitem__)
    assert series.geometry.slice_positions_mm().tolist() == z and warned(series, "gaps of 2.5, 7.5 mm")


def test_dcm2niix_468_143_exposures_times_and_acquisitions_that_vary_leave_one_volume(tmp_path):
    times = [{"StudyTime": f"1010{i:02d}", "AcquisitionTime": f"1010{i:02d}", "ContentTime": "11"} for i in range(N)]
    each = [times[i] | {"Exposure": 14 + i % 2, "AcquisitionNumber": i // 3} for i in range(N)]
    series = read_stack(tmp_path, each.__getitem__)
    np.testing.assert_array_equal(series.pixels, VOLUME)
    assert series.warnings == []
