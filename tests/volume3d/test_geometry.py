"""Volumes lie in the patient where their JSON says, whatever the plane, the order and the distances of the images."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, write_stack
from tests.mask_writer import OURS, blocks, grid_affine, save_mask
from tests.volume3d_series import made, places_mm, write_field
from volume3d.volume import read_vessels

# As many images as an uneven stack has places; 2 mm would be re-sliced by the first system, 5 mm not.
UNEVEN_MM = [0, 2, 3, 5, 9, 10, 12, 19, 20, 26, 28, 30, 35, 40, 41, 44, 48, 50, 53, 60]
PLANES = {
    "axial": AXIAL,
    "axial, feet and face first": (-1, 0, 0, 0, 1, 0),
    "coronal": CORONAL,
    "sagittal": SAGITTAL,
    "oblique": (0.8, 0.6, 0, -0.6, 0.8, 0),
}


def ramp_hu(places: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to 600 wherever there are pixels."""
    return 300 + places @ [1, 2, 3]


@pytest.mark.parametrize("orientation", PLANES.values(), ids=PLANES)
@pytest.mark.parametrize("z_mm, size", [(1.0, 40), (4.0, 12)])
def test_a_ramp_in_the_patient_comes_out_as_the_same_ramp(tmp_path, orientation, z_mm, size):
    # Pixels of 5 mm along (0.8, 0.6) lie at whole millimetres, so that the stored whole numbers are the ramp.
    shape, spacing = (20, 25, 27), (3.0, 5.0, 5.0) if orientation[1] == 0.6 else (3.0, 2.0, 3.0)
    along_row, along_column = np.reshape(orientation, (2, 3))
    first = -13 * spacing[2] * along_row - 12 * spacing[1] * along_column - 30 * np.cross(along_row, along_column)
    places = write_field(tmp_path / "series" / "a", ramp_hu, shape, orientation, spacing, first, UNEVEN_MM)
    volume, geometry = made(tmp_path, z_mm=z_mm, size=size, head_mm=0, dtype="float32")
    assert volume.shape == tuple(geometry["shape"]) and volume.shape[1:] == (size, size)
    found_mm = places_mm(geometry)
    axes = np.array(geometry["axes"])
    low, high = ((places.reshape(-1, 3) @ axes.T).min(0), (places.reshape(-1, 3) @ axes.T).max(0))
    inside = ((found_mm @ axes.T >= low - 1e-4) & (found_mm @ axes.T <= high + 1e-4)).all(-1)
    assert inside.mean() > 0.3
    assert volume[inside] == pytest.approx(ramp_hu(found_mm[inside]) / 600, abs=2e-5)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, (-1, 0, 0, 0, -1, 0)])
@pytest.mark.parametrize("gap_mm", [1.5, 5.0])
def test_a_spot_left_front_and_up_lies_there_and_where_simpleitk_puts_it(tmp_path, orientation, gap_mm):
    stored = np.full((24, 50, 50), -1000, np.int16)
    stored[:, 5:-5, 5:-5] = 40
    spacing = (gap_mm, 2.0, 2.0)
    middle = np.array(orientation[:3]) * 49 + np.array(orientation[3:]) * 49
    first = -middle - 11.5 * gap_mm * np.cross(orientation[:3], orientation[3:])
    affine = grid_affine(orientation, spacing, tuple(first))
    spot_mm = np.array([13.0, -11.0, 12.0])  # LPS: 13 mm left, 11 mm to the front, 12 mm up from the middle
    col, row, k = np.rint(np.linalg.solve(affine, [*spot_mm, 1])[:3]).astype(int)
    stored[k, row, col] = 3000
    write_stack(tmp_path / "series" / "a", stored, orientation, spacing, tuple(first))
    true_mm = (affine @ [col, row, k, 1])[:3]
    original = read_by_simpleitk(tmp_path / "series" / "a")
    voxel = np.unravel_index(sitk.GetArrayFromImage(original).argmax(), stored.shape)[::-1]
    assert original.TransformIndexToPhysicalPoint(tuple(map(int, voxel))) == pytest.approx(true_mm, abs=1e-3)

    volume, geometry = made(tmp_path, z_mm=1.0, size=100, head_mm=0)
    z, y, x = np.unravel_index(volume.argmax(), volume.shape)
    assert z > volume.shape[0] / 2 and y < volume.shape[1] / 2 and x > volume.shape[2] / 2
    assert geometry["spacing_mm"][0] == 1.0
    for index, axis, mm in ((z, 2, true_mm[2]), (y, 1, true_mm[1]), (x, 0, true_mm[0])):
        step_mm = geometry["spacing_mm"][2 - axis]
        # Of a spot as wide as a pixel, the voxel nearest to its middle shows most, or its neighbour as much.
        assert abs(geometry["origin"][axis] + index * step_mm - mm) <= max(step_mm, 1.0)
    image = sitk.Image(volume.shape[::-1], sitk.sitkUInt8)
    image.SetOrigin(geometry["origin"])
    image.SetSpacing(geometry["spacing_mm"][::-1])
    image.SetDirection(np.array(geometry["axes"])[::-1].T.ravel().tolist())
    found = image.TransformPhysicalPointToContinuousIndex(true_mm.tolist())
    assert np.abs(np.array(found) - (x, y, z)).max() <= 1.0


def read_by_simpleitk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def test_the_order_of_the_files_on_disk_changes_no_byte(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_stack(tmp_path / name / "series" / "a", rng.integers(0, 500, (12, 32, 32)).astype(np.int16))
    shutil.rmtree(tmp_path / "b" / "series" / "a")
    files = sorted((tmp_path / "a" / "series" / "a").iterdir())
    (tmp_path / "b" / "series" / "a").mkdir()
    for number, file in enumerate(random.Random(3).sample(files, len(files))):
        shutil.copy(file, tmp_path / "b" / "series" / "a" / f"{number:03d}.dcm")
    first, second = (made(tmp_path / name, z_mm=7.0, size=20) for name in ("a", "b"))
    assert np.ptp(first[0].astype(float)) > 0.3 and first[0].tobytes() == second[0].tobytes()
    saved = [(tmp_path / name / "npy_volume" / "a.npy").read_bytes() for name in ("a", "b")]
    assert saved[0] == saved[1]


def test_under_gantry_tilt_the_json_follows_the_images_and_a_warning_says_so(tmp_path):
    stored = np.full((30, 64, 64), 40, np.int16)
    stored[22, 20, 40] = 3000

    def tilted(i: int) -> dict:
        return {"ImagePositionPatient": [0, 0.4 * 3.0 * i, 3.0 * i]}

    write_stack(tmp_path / "series" / "a", stored, spacing=(3.0, 2.0, 2.0), each=tilted)
    volume, geometry = made(tmp_path, z_mm=3.0, size=64, head_mm=45)
    assert geometry["origin"][2] > 30  # the volume does not begin at the first image
    assert any("gantry tilt of 21.8 degrees" in warning for warning in geometry["warnings"])
    spot_mm = places_mm(geometry)[np.unravel_index(volume.argmax(), volume.shape)]
    assert spot_mm == pytest.approx([80.0, 40.0 + 0.4 * 66, 66.0], abs=1.6)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL])
def test_a_mask_is_resampled_to_the_nearest_voxel_and_lies_on_its_vessels(tmp_path, orientation):
    shape, spacing, first = (24, 40, 36), (4.0, 2.0, 2.0), (-35.0, 12.0, 51.0)
    values = blocks(shape[::-1], seed=5)
    stored = np.where(values > 0, 500, 40).astype(np.int16).transpose(2, 1, 0)
    write_stack(tmp_path / "series" / "a", stored, orientation, spacing, first)
    affine = grid_affine(orientation, spacing, first)
    save_mask(tmp_path / "masks" / "a.nii", values, affine)
    volume, geometry = made(tmp_path, mask="masks/a.nii", z_mm=2.0, size=45, head_mm=0)
    mask = read_vessels(tmp_path, "a")
    assert geometry["mask"] is True and mask.shape == volume.shape and mask.dtype == np.uint8
    assert len(np.unique(mask)) > 5
    found = (places_mm(geometry) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    near = np.floor(found + 0.5).astype(int)
    clear = (np.abs(found - np.floor(found) - 0.5) > 0.01).all(-1)  # not halfway between two voxels
    inside = ((near >= 0) & (near < shape[::-1])).all(-1) & clear
    assert inside.mean() > 0.3
    assert np.array_equal(mask[inside], OURS[values[tuple(near[inside].T)]])
    assert not mask[~inside & clear].any()
    assert ((volume > 0.45) == (mask > 0))[inside].mean() > 0.9


def test_where_the_square_reaches_beyond_the_images_there_is_nothing(tmp_path):
    write_stack(tmp_path / "series" / "a", np.full((4, 60, 20), 300, np.int16), spacing=(5.0, 2.0, 2.0))
    volume, _ = made(tmp_path, z_mm=5.0, size=30, head_mm=0)
    # 120 x 40 mm in a square of 120 mm and its margin of 4 % on both sides: columns of 4.32 mm.
    assert volume[0, 15, 15] == 0.5 and not volume[:, :, :9].any() and not volume[:, :, -9:].any()
