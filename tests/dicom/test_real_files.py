"""Real DICOM files: each row of ../shared/dicom/README.md, and the test files that come inside pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_rescale
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from aneurysm.dicom import header as header_module
from aneurysm.dicom.series import Series, read_series

SHARED = Path(__file__).parents[3] / "shared" / "dicom"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there: real DICOM files for tests")
BUNDLED_FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
BUNDLED = sorted(path for path in BUNDLED_FOLDER.rglob("*") if path.is_file())


def warned(series: Series, *texts: str) -> bool:
    return all(any(text in warning for warning in series.warnings) for text in texts)


@needs_shared
def test_a_tilted_head_ct_with_gaps_keeps_all_slices_sorted_along_the_normal():
    series = read_series(SHARED / "ct_tilt_gap")
    assert series.geometry.shape == (28, 512, 512)
    headers = [pydicom.dcmread(frame.storage.path) for frame in series.frames]
    z = [float(dataset.ImagePositionPatient[2]) for dataset in headers]
    assert z == sorted(z)
    cosine = float(headers[0].ImageOrientationPatient[4])  # of a tilt around the left-right axis
    assert np.degrees(np.arccos(cosine)) == pytest.approx(18.5, abs=0.1)
    assert warned(series, "unevenly spaced", f"gantry tilt of {np.degrees(np.arccos(cosine)):.1f} degrees")
    # along z the gaps are 1.1, 4.2 and 7.4 mm; along the normal shorter by the cosine of the tilt
    gaps = np.diff(series.geometry.slice_positions_mm())
    np.testing.assert_allclose(gaps, np.diff(z) * cosine, atol=0.2)
    assert series.modality == "CT" and series.shift_hu == 0
    assert series.pixels.min() >= -1024  # the padding of -1500 is no Hounsfield value
    middle = headers[14].pixel_array
    real = middle != -1500
    expected = middle * float(headers[14].RescaleSlope) + float(headers[14].RescaleIntercept)
    np.testing.assert_array_equal(series.pixels[14][real], expected[real])


@needs_shared
def test_an_enhanced_brain_mr_has_the_geometry_of_its_functional_groups():
    dataset = pydicom.dcmread(SHARED / "enhanced_mr" / "t1.dcm")
    series = read_series(SHARED / "enhanced_mr")
    assert series.geometry.shape == (96, 128, 128)
    groups = dataset.PerFrameFunctionalGroupsSequence
    for place, frame in enumerate(series.frames):
        position = groups[frame.index].PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(series.geometry.positions[place], np.array(position, float), atol=1e-6)
    orientation = groups[0].PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(series.geometry.orientation, np.array(orientation, float), atol=1e-3)
    normal = np.cross(series.geometry.orientation[:3], series.geometry.orientation[3:])
    assert (np.diff(series.geometry.positions @ normal) > 0).all()
    assert series.geometry.spacing == pytest.approx((2, 2, 2), abs=0.01)
    stored = dataset.pixel_array[[frame.index for frame in series.frames]]
    np.testing.assert_array_equal(series.pixels, series.geometry.turned(stored))


@needs_shared
@pytest.mark.parametrize("number", range(2, 10))
def test_one_image_in_nine_encodings_has_equal_pixels(number):
    first, other = (read_series(SHARED / "syntaxes" / f"{i}.dcm") for i in (1, number))
    dataset = pydicom.dcmread(SHARED / "syntaxes" / "1.dcm")
    np.testing.assert_array_equal(first.pixels[0], dataset.pixel_array)
    np.testing.assert_array_equal(other.pixels, first.pixels)
    np.testing.assert_array_equal(other.geometry.positions, first.geometry.positions)
    assert other.warnings == []


@needs_shared
def test_a_structured_report_is_left_out_and_said_so(tmp_path):
    path = SHARED / "broken" / "not_an_image.dcm"
    with pytest.raises(ValueError, match="not_an_image.dcm: not an image"):
        read_series(path)
    for source in (path, SHARED / "syntaxes" / "1.dcm"):
        (tmp_path / source.name).symlink_to(source)
    series = read_series(tmp_path)
    assert series.n_slices == 1 and warned(series, "not_an_image.dcm")


@needs_shared
def test_four_slices_at_one_position_get_a_clear_warning():
    series = read_series(SHARED / "broken" / "notavolume")
    assert series.n_slices == 4
    assert warned(series, "all 4 images lie at one position: sorted by instance number")


@needs_shared
def test_two_slices_beside_two_files_that_are_not_dicom():
    series = read_series(SHARED / "broken" / "slicecount")
    assert (series.n_slices, series.geometry.plane) == (2, "sagittal")
    assert warned(series, "2 files left out", "IM-garbage.dcm", "README.txt")


@needs_shared
def test_of_two_orientations_one_is_kept_and_the_rest_named():
    series = read_series(SHARED / "broken" / "sliceorientation")
    kept = {frame.storage.path.name for frame in series.frames}
    everything = {path.name for path in (SHARED / "broken" / "sliceorientation").iterdir()}
    assert len(kept) == 2 and warned(series, "2 of 4 images left out", *(everything - kept))
    tags = [pydicom.dcmread(frame.storage.path).ImageOrientationPatient for frame in series.frames]
    np.testing.assert_allclose(np.array(tags[0], float), np.array(tags[1], float), atol=0.01)


@needs_shared
def test_of_two_slices_at_one_position_one_is_kept_and_the_other_named():
    series = read_series(SHARED / "broken" / "duplicate_positions")
    assert series.n_slices == 10
    assert warned(series, "1 images repeat the position of another", "unevenly spaced")
    positions = [float(pydicom.dcmread(frame.storage.path).ImagePositionPatient[2]) for frame in series.frames]
    assert positions == sorted(set(positions))


def is_grey_and_single(dataset: pydicom.Dataset) -> bool:
    return dataset.SamplesPerPixel == 1 and int(dataset.get("NumberOfFrames") or 1) == 1


def physical_values(dataset: pydicom.Dataset) -> np.ndarray:
    """Pixels by pydicom alone: padding made dark, rescaled, MONOCHROME1 turned back."""
    stored = dataset.pixel_array
    padding = dataset.get("PixelPaddingValue")
    if padding is not None and (stored != padding).any():
        stored = np.where(stored == padding, stored[stored != padding].min(), stored)
    values = apply_rescale(stored, dataset).astype(np.float64)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1" and dataset.Modality != "CT"
    return -values if inverted else values


@pytest.mark.filterwarnings("ignore")
def test_every_file_of_pydicom_is_read_as_pydicom_does_or_refused_by_name():
    for path in BUNDLED:
        try:
            series = read_series(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            is_as_pydicom_reads(path, series)


def is_as_pydicom_reads(path: Path, series: Series) -> None:
    try:
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        assert series.geometry.shape[1:] == (dataset.Rows, dataset.Columns)
        if not is_grey_and_single(dataset):
            return
        expected = physical_values(dataset)
    except (ValueError, AttributeError):  # a file that pydicom itself cannot read
        return
    expected = series.geometry.turned(expected)
    np.testing.assert_allclose(series.pixels[0] - series.shift_hu, expected, rtol=1e-6, err_msg=str(path))


@pytest.mark.filterwarnings("ignore")
def test_most_grey_files_of_pydicom_are_read_not_refused():
    read = 0
    for path in BUNDLED:
        try:
            read_series(path, select=())
            read += 1
        except ValueError:
            continue
    assert read >= 40


@pytest.mark.filterwarnings("ignore")
def test_the_plain_header_parser_agrees_with_pydicom_wherever_it_answers():
    paths = BUNDLED + sorted(path for path in SHARED.rglob("*") if path.is_file())
    answered = 0
    for path in paths:
        with open(path, "rb") as file:
            plain = header_module._read_plain(path, file.read(header_module._PLAIN_BYTES))
            file.seek(0)
            if plain is None:
                continue
            full = header_module._read_any(path, file)
        answered += 1
        assert plain.values == full.values, path
        assert (plain.syntax, plain.pixel_offset, plain.pixel_bytes) == (
            full.syntax,
            full.pixel_offset,
            full.pixel_bytes,
        ), path
    assert answered >= 20
