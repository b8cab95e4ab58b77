"""NIfTI files as nibabel and SimpleITK read them: where voxels lie and what they hold, by the DICOM headers alone."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from aneurysm.cache.windows import crop_box
from aneurysm.inference.sac_map import SacMap
from aneurysm.inference.sampled import Request, read_sampled
from aneurysm.report.nifti import write_map_nifti, write_series_nifti
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, voxel_positions, write_stack
from tests.inference.test_peaks import INPUT, REQUEST
from tests.oriented_stacks import turned_by

FIRST = (-31.25, 12.5, 40.0)
OBLIQUE = turned_by(AXIAL, (18, -9, 6))
STACKS = [
    pytest.param(AXIAL, (4.0, 0.9, 0.6), id="axial"),
    pytest.param((-1, 0, 0, 0, -1, 0), (4.0, 0.9, 0.6), id="axial, turned round"),
    pytest.param(CORONAL, (5.0, 0.8, 1.1), id="coronal"),
    pytest.param(SAGITTAL, (5.0, 0.8, 1.1), id="sagittal"),
    pytest.param(SAGITTAL, (1.2, 0.8, 1.1), id="sagittal, re-sliced"),
    pytest.param(CORONAL, (1.2, 0.8, 1.1), id="coronal, re-sliced"),
    pytest.param(OBLIQUE, (3.0, 0.7, 0.9), id="oblique"),
]


def places_by_headers(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each file (rows, columns, 3) millimetres (LPS), by DICOM PS3.3 C.7.6.2.1-1, and its values in the header's
    units."""
    found = []
    for header in map(pydicom.dcmread, sorted(folder.iterdir())):
        along_row, along_column = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3))
        row_mm, column_mm = map(float, header.PixelSpacing)
        rows, columns = np.mgrid[: header.Rows, : header.Columns][..., None]
        first = np.array([float(v) for v in header.ImagePositionPatient])
        place = first + columns * column_mm * along_row + rows * row_mm * along_column
        scale = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        found.append((place, header.pixel_array * scale[0] + scale[1]))
    return found


def read_both(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (columns, rows, slices) and their affine to millimetres in LPS, on which both libraries agree."""
    image, other = nibabel.load(path), sitk.ReadImage(str(path))
    affine = np.diag([-1, -1, 1, 1]) @ image.affine
    steps = np.reshape(other.GetDirection(), (3, 3)) * other.GetSpacing()
    np.testing.assert_allclose(affine[:3, :3], steps, atol=1e-4)
    np.testing.assert_allclose(affine[:3, 3], other.GetOrigin(), atol=0.01)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=0.01)
    assert image.header.get_xyzt_units()[0] == "mm" and image.header["sform_code"] == image.header["qform_code"] == 1
    voxels = np.asarray(image.dataobj)
    np.testing.assert_array_equal(voxels, sitk.GetArrayFromImage(other).transpose(2, 1, 0))
    return voxels, affine


def voxel_places(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(columns, rows, slices, 3) LPS millimetres."""
    index = np.moveaxis(np.indices(voxels.shape), 0, -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize(("orientation", "spacing"), STACKS)
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_every_pixel_of_a_series_is_where_its_header_says_with_the_value_it_has(
    tmp_path, modality, orientation, spacing
):
    pixels = np.random.default_rng(0).integers(-500, 900, (14, 24, 20)).astype(np.int16)
    scale = {"RescaleSlope": 1.5, "RescaleIntercept": -7} if modality == "MR" else {}
    write_stack(tmp_path / "dicom", pixels, orientation, spacing, FIRST, Modality=modality, **scale)
    assert write_series_nifti(tmp_path / "dicom", tmp_path / "a.nii.gz") == []
    voxels, affine = read_both(tmp_path / "a.nii.gz")
    assert voxels.shape == (20, 24, 14) and voxels.dtype == (np.int16 if modality == "CT" else np.float32)
    for place, values in places_by_headers(tmp_path / "dicom"):
        index = (place - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        nearest = np.rint(index).astype(int)
        off_mm = np.linalg.norm((index - nearest) @ affine[:3, :3].T, axis=-1)
        assert off_mm.max() < 0.01
        np.testing.assert_array_equal(voxels[tuple(np.moveaxis(nearest, -1, 0))], values)


def write_ramp(
    folder: Path, axis: int, orientation: tuple, places: np.ndarray, row_mm: float, column_mm: float
) -> None:
    """A CT whose value is 200 times the millimetres along one axis of the patient; `places` of its first pixels."""
    steps = voxel_positions((1, 40, 40), (0, 0, 0), orientation, (1, row_mm, column_mm))[0]
    middle = places[len(places) // 2] + steps[20, 20]
    values = 200 * (places[:, None, None] + steps - middle)[..., axis]
    each = lambda i: {"ImagePositionPatient": [*map(float, places[i])], "RescaleIntercept": 200 * middle[axis]}  # noqa: E731
    write_stack(folder, np.rint(values).astype(np.int16), orientation, (3.0, row_mm, column_mm), each=each)


def tilted(heights_mm: list[float]) -> np.ndarray:
    """(slices, 3) first pixels of axial images of a gantry tilted by 18.5 degrees, as DICOM has it: the images are
    upright to their normal, and each is shifted along its columns."""
    heights = np.array(heights_mm)
    return np.stack([np.full(len(heights), -31.25), 12.5 + np.tan(np.radians(18.5)) * heights, 40 + heights], axis=1)


UPRIGHT = np.array([[-31.25, 12.5, 40.0]])
EVEN, UNEVEN = [3.0 * i for i in range(9)], [0.0, 3.0, 6.0, 7.1, 11.3, 18.7, 21.7, 24.7, 27.7]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("places", "words"),
    [
        (tilted(EVEN), "slices are shifted against each other (gantry tilt)"),
        (UPRIGHT + [[0, 0, h] for h in UNEVEN], "distances between slices differ"),
        (tilted(UNEVEN), "distances between slices differ and slices are shifted against each other (gantry tilt)"),
    ],
)
def test_tilted_and_uneven_series_are_interpolated_to_an_even_grid_and_values_stay_at_their_places(
    tmp_path, axis, places, words
):
    write_ramp(tmp_path / "dicom", axis, AXIAL, places, 0.8, 1.1)
    messages = write_series_nifti(tmp_path / "dicom", tmp_path / "a.nii.gz")
    assert messages == [f"a.nii.gz is interpolated: {words}"]
    voxels, affine = read_both(tmp_path / "a.nii.gz")
    steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(steps.T @ steps, np.eye(3), atol=1e-6)
    # A value that grows evenly is not changed by linear interpolation: what a voxel holds tells where it should lie.
    inside = np.zeros(voxels.shape, bool)
    inside[1:-1, 2:-2] = True  # at the border values are blended with what is added around
    by_column = voxel_places(voxels, affine)
    moved = np.interp(by_column[..., 2], places[:, 2], places[:, 1])
    largest_mm = np.abs(np.diff(places[:, 1])).max()  # between two slices that are blended
    inside &= (by_column[..., 1] > moved + 0.8 + largest_mm) & (by_column[..., 1] < moved + 0.8 * 38 - largest_mm)
    off_mm = voxels[inside] / 200 - by_column[inside][:, axis]
    assert inside.mean() > 0.5 and np.abs(off_mm).max() < 0.01
    assert by_column[0, 0, 0, 2] == pytest.approx(40) and by_column[0, 0, -1, 2] == pytest.approx(
        places[-1, 2], abs=0.01
    )


@pytest.mark.parametrize("tilt", [0.0, 18.5])
@pytest.mark.parametrize("slice_spacing_mm", [0.0, 5.0])
@pytest.mark.parametrize(("orientation", "spacing"), STACKS)
def test_the_map_lies_over_the_series(tmp_path, orientation, spacing, slice_spacing_mm, tilt):
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    gap = np.cross(row, column) * spacing[0] + column * spacing[0] * np.tan(np.radians(tilt))
    pixels = np.random.default_rng(0).integers(0, 900, (24, 40, 36)).astype(np.int16)
    each = lambda i: {"ImagePositionPatient": [*map(float, FIRST + i * gap)], "Modality": "MR"}  # noqa: E731
    write_stack(tmp_path / "dicom", pixels, orientation, spacing, each=each)
    series = read_sampled(tmp_path / "dicom", Request(REQUEST.settings, slice_spacing_mm, REQUEST.inputs))
    assert series.geometry.resliced == (spacing[0] < 2 and not tilt)
    box, n = crop_box(INPUT, series.geometry.plane), 16
    # Where each pixel of a map lies: in the input, the cache, the images (tested against to_cache elsewhere), in LPS.
    centres = (np.arange(n) + 0.5) * box.image_size / n - 0.5
    x, y = box.to_cache(np.stack([centres, centres], axis=1)).T
    slices, rows, columns = series.mapping.cached_pixels()
    lines = (slices[series.index], rows[0] + y * (rows[1] - rows[0]), columns[0] + x * (columns[1] - columns[0]))
    source = dict(zip(series.mapping.order, np.meshgrid(*lines, indexing="ij"), strict=True))
    steps = (gap, spacing[1] * column, spacing[2] * row)
    places = np.array(FIRST) + sum(source[axis][..., None] * steps[axis] for axis in range(3))

    def written(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        write_map_nifti(SacMap(series.index, values.astype(np.float32), box), series, tmp_path / "m.nii.gz")
        return read_both(tmp_path / "m.nii.gz")

    whole, affine = written(np.ones(places.shape[:3]))
    inside = whole > 1 - 1e-6  # not blended with what is added around a tilted map
    assert inside.mean() > 0.3 if tilt else inside.all()
    for axis in range(3):
        off_mm = written(places[..., axis])[0] - voxel_places(whole, affine)[..., axis]
        assert np.abs(off_mm[inside]).max() < 0.01


def test_a_map_on_evenly_spaced_windows_has_the_values_of_the_models(tmp_path):
    write_stack(tmp_path / "dicom", np.ones((24, 40, 36), np.int16), AXIAL, (4.0, 2.0, 2.0), FIRST, Modality="MR",
                each=lambda i: {"RescaleSlope": 1 + i % 2})  # fmt: skip
    series = read_sampled(tmp_path / "dicom", Request(REQUEST.settings, 0.0, REQUEST.inputs))
    values = np.random.default_rng(0).random((len(series.index), 16, 16)).astype(np.float32)
    write_map_nifti(SacMap(series.index, values, crop_box(INPUT, "axial")), series, tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(read_both(tmp_path / "m.nii.gz")[0], values.transpose(2, 1, 0))
