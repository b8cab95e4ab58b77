"""Where vessel masks lie in the cache: against SimpleITK, and by hand where positions are uneven, tilted or missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from aneurysm.cache.placed_masks import place_mask
from aneurysm.cache.vessel_masks import read_mask
from aneurysm.dicom.mapping import Crop
from aneurysm.dicom.series import Series, read_series
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, write_enhanced, write_stack
from tests.mask_writer import OURS, blocks, grid_affine, numbered_slices, save_mask
from tests.oriented_stacks import turned_by


def placed(path: Path, series: Series) -> tuple[np.ndarray, list[str]]:
    """(slices, 512, 512) the mask in the cache, and what was said about it."""
    output: list[str] = []
    return np.stack(list(place_mask(read_mask(path, output), series, output).images())), output


def cache_grid(series: Series) -> sitk.Image:
    """An image whose voxels are the cache's pixels; its axes are the source's columns, rows and slices."""
    volume = sitk.ReadImage([str(frame.storage.path) for frame in series.frames])
    crop, geometry = series.crop, series.geometry
    lines = [(crop.first, 1.0, crop.count)]  # of slices, rows and columns: the first, the step and their number
    for start, length in ((crop.top, crop.height), (crop.left, crop.width)):
        lines.append((start + 0.5 * length / 512 - 0.5, length / 512, 512))
    grid = [None] * 3
    for axis, flip, (first, step, count) in zip(geometry.order, geometry.flip, lines, strict=True):
        grid[axis] = (geometry.shape[axis] - 1 - (first + step * (count - 1)) if flip else first, step, count)
    firsts, steps, counts = zip(*grid[::-1], strict=True)
    image = sitk.Image(counts, sitk.sitkUInt8)
    image.SetOrigin(volume.TransformContinuousIndexToPhysicalPoint(firsts))
    image.SetSpacing(np.array(volume.GetSpacing()) * steps)
    image.SetDirection(volume.GetDirection())
    return image


def require_same_as_simpleitk(found: np.ndarray, path: Path, series: Series) -> None:
    """Compares a mask in the cache with SimpleITK's; they may differ where a pixel lies just between two voxels."""
    mask, grid = sitk.ReadImage(str(path)), cache_grid(series)
    resampled = sitk.GetArrayFromImage(sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor))
    expected = OURS[series.geometry.turned(resampled)]
    assert found.shape == expected.shape and (expected > 0).sum() > 5000 and len(np.unique(expected)) > 6
    numbers = series.geometry.turned(np.arange(resampled.size).reshape(resampled.shape))
    for number in numbers[found != expected][::10]:
        z, y, x = map(int, np.unravel_index(number, resampled.shape))
        voxel = np.array(mask.TransformPhysicalPointToContinuousIndex(grid.TransformIndexToPhysicalPoint((x, y, z))))
        assert np.abs(voxel % 1 - 0.5).min() < 0.002


OBLIQUE = turned_by(AXIAL, (18, -9, 6))
STACKS = {  # orientation, spacing between slices, rows and columns, shape; thin coronal ones are re-sliced to axial
    "axial": (AXIAL, (4.0, 0.9, 0.6), (8, 70, 110)),
    "coronal thin": (CORONAL, (1.2, 0.8, 1.1), (44, 22, 50)),
    "sagittal thick": (SAGITTAL, (5.0, 0.9, 0.6), (8, 70, 110)),
    "oblique": (OBLIQUE, (4.0, 0.9, 0.6), (8, 70, 110)),
}
FIRST = (-20.0, 30.0, 10.0)


@pytest.mark.parametrize("axes", ["as stored", "flipped", "permuted", "of another resolution", "straight"])
@pytest.mark.parametrize("name", STACKS)
def test_masks_lie_where_simpleitk_resamples_them_to(tmp_path, name, axes):
    orientation, spacing, shape = STACKS[name]
    write_stack(tmp_path / "a", np.zeros(shape, np.int16), orientation, spacing, FIRST, Modality="MR")
    affine, size = grid_affine(orientation, spacing, FIRST), np.array(shape[::-1])
    values = blocks(tuple(size))
    if axes == "flipped":
        values = values[::-1, :, ::-1]
        affine = affine @ np.array([[-1, 0, 0, size[0] - 1], [0, 1, 0, 0], [0, 0, -1, size[2] - 1], [0, 0, 0, 1.0]])
    elif axes == "permuted":
        values, affine = values.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]]
    elif axes == "of another resolution":
        values, affine = blocks((29, 31, 23)), affine @ np.diag([*(size / (29, 31, 23)), 1])
    elif axes == "straight":  # along the patient's axes, whatever the series
        centre, steps = (affine @ [*(size / 2), 1])[:3], np.array([1.113, 0.917, 0.611])
        values, affine = blocks((29, 31, 23)), np.diag([*steps, 1])
        affine[:3, 3] = centre - steps * (29, 31, 23) / 2
    path = save_mask(tmp_path / "a_cowseg.nii", values, affine)
    series = read_series(tmp_path / "a", select=())
    assert series.geometry.resliced == (name == "coronal thin")
    n_slices, rows, cols = series.geometry.canonical_shape
    part = Crop(n_slices // 8, n_slices * 3 // 4, rows // 6, rows * 2 // 3, cols // 8, cols * 3 // 4)
    for crop in (series.crop, part):
        series.crop = crop
        found, output = placed(path, series)
        assert found.dtype == np.uint8 and output == []
        require_same_as_simpleitk(found, path, series)


def test_each_slice_shows_its_own_voxels_where_a_slice_is_missing(tmp_path):
    uids = write_stack(tmp_path / "a", np.zeros((11, 32, 32), np.int16), AXIAL, (3.0, 1.0, 1.0))
    (tmp_path / "a" / "896.dcm").unlink()  # of slice 4
    path = save_mask(tmp_path / "m.nii", numbered_slices((32, 32, 11)), grid_affine(AXIAL, (3.0, 1.0, 1.0)))
    series = read_series(tmp_path / "a", select=())
    assert [frame.sop_uid for frame in series.frames] == uids[:4] + uids[5:]
    found, output = placed(path, series)
    assert found[:, 256, 256].tolist() == OURS[[1, 2, 3, 4, 6, 7, 8, 9, 10, 11]].tolist() and output == []


def test_a_mask_drawn_on_unevenly_spaced_slices_is_matched_slice_by_slice(tmp_path):
    heights = [0, 3, 6, 9, 21, 24, 27, 30]  # of which an affine can tell nothing
    tags = [{"ImagePositionPatient": [0, 0, height]} for height in heights]
    write_stack(tmp_path / "a", np.zeros((8, 32, 32), np.int16), each=lambda i: tags[i], PixelSpacing=[1, 1])
    path = save_mask(tmp_path / "m.nii", numbered_slices((32, 32, 8)), grid_affine(AXIAL, (3.0, 1.0, 1.0)))
    found, output = placed(path, read_series(tmp_path / "a", select=()))
    assert found[:, 256, 256].tolist() == OURS[1:9].tolist()
    assert len(output) == 1 and "up to 3.0 voxels away: matched one to one" in output[0]


def test_positions_a_tenth_of_a_voxel_off_are_still_those_of_the_mask(tmp_path):
    tags = [{"ImagePositionPatient": [0, i - 0.1 * (i % 2), 0]} for i in range(20)]
    zeros = np.zeros((20, 16, 24), np.int16)
    write_stack(tmp_path / "a", zeros, CORONAL, each=lambda i: tags[i], PixelSpacing=[1, 1], Modality="MR")
    path = save_mask(tmp_path / "m.nii", blocks((24, 16, 20)), grid_affine(CORONAL, (1.0, 1.0, 1.0)))
    series = read_series(tmp_path / "a", select=())
    assert series.geometry.resliced and placed(path, series)[1] == []


def test_a_tilted_gantry_shifts_the_mask_as_it_shifts_the_images(tmp_path):
    tags = [{"ImagePositionPatient": [0, 2 * i, 3 * i]} for i in range(8)]
    write_stack(tmp_path / "a", np.zeros((8, 32, 32), np.int16), each=lambda i: tags[i], PixelSpacing=[1, 1])
    straight = np.zeros((32, 50, 8), np.uint8)
    straight[10:20, 20:28] = 6  # 20 to 28 mm to the back on every slice: rows 20 - 2 i to 28 - 2 i of image i
    path = save_mask(tmp_path / "m.nii", straight, grid_affine(AXIAL, (3.0, 1.0, 1.0)))
    found, _ = placed(path, read_series(tmp_path / "a", select=()))
    for i in range(8):
        rows = np.flatnonzero(found[i].any(axis=1)) / 16  # 32 rows of the image fill 512
        assert (rows[0], rows[-1] + 1 / 16) == (20 - 2 * i, 28 - 2 * i)
        assert found[i].max() == 1


def test_without_positions_voxels_and_pixels_are_matched_one_to_one(tmp_path):
    write_enhanced(tmp_path / "a" / "e.dcm", np.zeros((9, 24, 32), np.int16), geometry="none")
    values = blocks((32, 24, 9))
    lps = grid_affine(AXIAL, (1.5, 0.4, 0.4), (-90, -70, -300))
    turned = lps @ np.array([[-1, 0, 0, 31], [0, 1, 0, 0], [0, 0, -1, 8], [0, 0, 0, 1.0]])
    path = save_mask(tmp_path / "m.nii", values[::-1, :, ::-1], turned)  # to the right and downward, says the affine
    found, output = placed(path, read_series(tmp_path / "a", select=()))
    # The 32 x 24 pixels fill 32 x 32 pixels of 16 x 16 in the cache, 4 rows of padding above and below.
    np.testing.assert_array_equal(found[:, 4 * 16 + 8 : -4 * 16 : 16, 8::16], OURS[values.transpose(2, 1, 0)])
    assert not found[:, :64].any() and not found[:, -64:].any()
    assert len(output) == 1 and str(path) in output[0] and "matched one to one" in output[0]


def test_a_mask_beside_the_series_and_of_other_counts_is_refused(tmp_path):
    write_enhanced(tmp_path / "a" / "e.dcm", np.zeros((9, 24, 32), np.int16), geometry="none")
    path = save_mask(tmp_path / "m.nii", blocks((32, 24, 8)), grid_affine(AXIAL, (1.5, 0.4, 0.4), (-90, -70, -300)))
    with pytest.raises(ValueError, match=r"m.nii: expected .* 9 axial slices of 24 x 32, found 0% .* 32 x 24 x 8 voxe"):
        placed(path, read_series(tmp_path / "a", select=()))


@pytest.mark.parametrize(("shift_voxels", "meets"), [(1, True), (3, False)])
def test_nine_tenths_of_the_vessels_must_lie_inside_the_series(tmp_path, shift_voxels, meets):
    write_stack(tmp_path / "a", np.zeros((20, 32, 32), np.int16), AXIAL, (1.0, 1.0, 1.0))
    values = np.zeros((32, 32, 21), np.uint8)
    values[10:20, 10, 1:21] = 4  # of twenty slices of vessels, as many as it is shifted lie above the series
    affine = grid_affine(AXIAL, (1.0, 1.0, 1.0), (0, 0, shift_voxels - 1))
    path, series = save_mask(tmp_path / "m.nii", values, affine), read_series(tmp_path / "a", select=())
    if meets:
        assert (placed(path, series)[0] == 10).any(axis=(1, 2)).tolist() == [False] * shift_voxels + [True] * 19
        return
    with pytest.raises(ValueError, match="found 85% of the vessels inside"):
        placed(path, series)
