"""Vessel masks from file to cache: on the vessels of phantoms, done again when they change, left out when broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from aneurysm.cache.cache import open_cache
from aneurysm.cache.disk import estimate_bytes
from aneurysm.cache.preprocess import CacheSettings, preprocess_series
from aneurysm.cache.vessel_masks import find_mask, read_mask
from aneurysm.paths import DataPaths
from tests.dicom_writer import AXIAL, write_stack
from tests.mask_writer import OURS, blocks, grid_affine, numbered_slices, save_mask

SETTINGS = CacheSettings(head_mm=0)


def test_values_that_mark_no_vessel_become_background_with_a_warning(tmp_path):
    values = np.zeros((4, 4, 4))
    values[0, 0], values[1, 0], values[2, 0] = [1, 13, 14, 255], [np.nan, -1, 2.5, 6.0000001], [14, 0, 0, 0]
    path, output = save_mask(tmp_path / "m.nii", values.astype(np.float32), np.eye(4)), []
    mask = read_mask(path, output)
    assert dict(zip(map(tuple, mask.voxels.tolist()), mask.numbers.tolist(), strict=True)) == {
        (0, 0, 0): 13, (0, 0, 1): 7, (1, 0, 3): 1,
    }  # fmt: skip
    assert len(output) == 1 and output[0].startswith(f"{path}: expected values 0 to 13, found ")
    assert all(f"{value}" in output[0] for value in ("14", "255", "nan", "-1", "2.5")) and "in 6 voxels" in output[0]


def test_masks_are_found_in_a_folder_of_their_own_or_flat_packed_or_not(tmp_path):
    paths = DataPaths(tmp_path)
    assert find_mask(paths, "a") is None
    for name in ("a_cowseg.nii.gz", "a_cowseg.nii", "a/a_cowseg.nii.gz", "a/a_cowseg.nii"):
        path = save_mask(tmp_path / "segmentations" / name, blocks((8, 8, 8)), np.eye(4))
        assert find_mask(paths, "a") == path
        assert len(read_mask(path, []).voxels) == np.count_nonzero(blocks((8, 8, 8)))
    assert find_mask(paths, "b") is None


SHAPE, SPACING = (6, 32, 32), (5.0, 6.0, 6.0)


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """One axial CT of six slices, and its mask."""
    write_stack(tmp_path / "series" / "a", np.full(SHAPE, 40, np.int16), AXIAL, SPACING)
    save_mask(
        tmp_path / "segmentations" / "a" / "a_cowseg.nii", numbered_slices(SHAPE[::-1]), grid_affine(AXIAL, SPACING)
    )
    return tmp_path


def cached(data_dir: Path) -> tuple[bool, dict]:
    """Whether the series was in the cache already, and its row of train_meta.csv."""
    outcome = preprocess_series(data_dir, "a", SETTINGS, slices=False)
    assert outcome.kind == "", outcome.message
    return outcome.was_cached, json.loads((data_dir / "npy_sequence" / "a.json").read_text())["meta"]


def test_the_cache_gives_a_masks_slices_one_by_one(data_dir):
    _, meta = cached(data_dir)
    assert meta["vessels"] is True and meta["warnings"] == ""
    whole = np.load(data_dir / "npy_vessels" / "a.npy")
    assert whole.shape == (6, 512, 512) and whole.dtype == np.uint8
    cache = open_cache(data_dir)
    for i in range(6):
        assert np.array_equal(cache.vessels("a", i), whole[i]) and whole[i, 256, 256] == OURS[1 + i]
    for index in (-1, 6):
        with pytest.raises(IndexError, match="expected slices 0 to 5"):
            cache.vessels("a", index)
    assert estimate_bytes(DataPaths(data_dir), ["a"], head_mm=0, copies=1) == 6 * 512 * 512 * (2 + 1)
    with open(data_dir / "npy_vessels" / "a.npy", "r+b") as file:
        file.truncate(5 * 512 * 512)
    with pytest.raises(ValueError, match="a.npy: expected 6 slices, the file is too short"):
        cache.vessels("a", 5)
    np.save(data_dir / "npy_vessels" / "a.npy", whole[:5])
    with pytest.raises(ValueError, match="expected 6 slices as in the series, found 5"):
        open_cache(data_dir).vessels("a", 0)


def test_a_series_is_done_again_when_its_mask_comes_changes_or_goes(data_dir):
    mask, vessels = find_mask(DataPaths(data_dir), "a"), data_dir / "npy_vessels" / "a.npy"
    kept = mask.rename(data_dir / "later.nii")
    assert cached(data_dir)[1]["vessels"] is False and open_cache(data_dir).vessels("a", 0) is None
    kept.rename(mask)
    assert cached(data_dir)[0] is False and vessels.exists()
    assert cached(data_dir)[0] is True
    os.utime(mask, ns=(1, 1))
    assert cached(data_dir)[0] is False
    vessels.unlink()
    assert cached(data_dir)[0] is False and vessels.exists()
    mask.unlink()
    was_cached, meta = cached(data_dir)
    assert was_cached is False and meta["vessels"] is False and not vessels.exists()


BROKEN = {
    "text": (lambda path: path.write_text("no image"), "expected a NIfTI file, found a damaged one"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:3000]), "expected a NIfTI file, found a damaged one"),
    "two dimensions": (lambda path: save_mask(path, np.ones((9, 9)), np.eye(4)), "three axes, found 9 x 9 voxels"),
    "two volumes": (lambda path: save_mask(path, np.ones((9, 9, 9, 2)), np.eye(4)), "found 9 x 9 x 9 x 2 voxels"),
    "no affine": (
        lambda path: nibabel.save(nibabel.Nifti1Image(np.ones(SHAPE[::-1], np.uint8), None), path),
        "expected an affine to patient coordinates, found neither sform nor qform",
    ),
    "flat affine": (  # the third row of the sform, bytes 312 to 328 of the header, is zero
        lambda path: path.write_bytes(path.read_bytes()[:312] + bytes(16) + path.read_bytes()[328:]),
        "expected an affine that can be inverted",
    ),
    "colours": (
        lambda path: save_mask(path, np.zeros(SHAPE[::-1], [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)),
        "expected numbers",
    ),
    "empty": (lambda path: save_mask(path, np.zeros(SHAPE[::-1], np.uint8), np.eye(4)), "expected vessels, found none"),
    "elsewhere": (
        lambda path: save_mask(path, numbered_slices((30, 30, 6)), grid_affine(AXIAL, SPACING, (900, 0, 0))),
        "expected to lie in the series or to have its 6 axial slices of 32 x 32, found 0% of the vessels inside and "
        "30 x 30 x 6 voxels",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_mask_leaves_its_series_without_one_and_a_warning_that_says_why(data_dir, name):
    spoil, output = BROKEN[name]
    assert cached(data_dir)[1]["vessels"] is True
    spoil(data_dir / "segmentations" / "a" / "a_cowseg.nii")
    was_cached, meta = cached(data_dir)
    assert was_cached is False and meta["vessels"] is False and meta["n_slices"] == 6
    assert "no vessel mask: segmentations/a/a_cowseg.nii: expected" in meta["warnings"] and output in meta["warnings"]
    assert open_cache(data_dir).vessels("a", 0) is None and not (data_dir / "npy_vessels" / "a.npy").exists()
