"""Volumes, masks and descriptions that are damaged or not there: each names itself when it is read."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cache.test_preprocess import head_ct
from tests.dicom_writer import write_stack
from tests.volume3d_series import made
from volume3d.volume import read_geometry, read_vessels, read_volume

SPACING = (2.0, 3.0, 3.0)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def replaced(change):
    return lambda path: np.save(path, change(np.load(path)))


def set_first(value: float):
    def change(volume: np.ndarray) -> np.ndarray:
        volume[0, 0, 0] = value
        return volume

    return replaced(change)


BROKEN = {
    "cut": (cut, "damaged or cut"),
    "empty": (lambda path: path.write_bytes(b""), "damaged or cut"),
    "text": (lambda path: path.write_text("no volume" * 99), "damaged or cut"),
    "pickled": (replaced(lambda v: np.array([{}, 1])), "damaged or cut"),
    "missing": (Path.unlink, "not there; has volume3d.preprocess run"),
    "type": (replaced(lambda v: v.astype(np.float64)), r"expected \(Z, H, W\) float16 or float32, found .* float64"),
    "axes": (replaced(lambda v: v[0]), r"expected \(Z, H, W\) float16 or float32, found \(128, 128\)"),
    "shape": (replaced(lambda v: v[1:]), r"expected the shape \(4, 128, 128\) of a.json, found \(3, 128, 128\)"),
    "above 1": (set_first(1.001), "expected values from 0 to 1, found 1.0009765625 and 0 more"),
    "below 0": (set_first(-0.5), "expected values from 0 to 1, found -0.5"),
    "NaN": (set_first(np.nan), "expected values from 0 to 1, found nan"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_volume_names_itself(tmp_path, how):
    write_stack(tmp_path / "series" / "a", head_ct(6), spacing=SPACING)
    made(tmp_path)
    spoil, message = BROKEN[how]
    spoil(tmp_path / "npy_volume" / "a.npy")
    with pytest.raises(ValueError, match=f"npy_volume/a.npy: .*{message}"):
        read_volume(tmp_path, "a")


def test_damaged_masks_and_descriptions_name_themselves(tmp_path):
    write_stack(tmp_path / "series" / "a", head_ct(6), spacing=SPACING)
    volume, _ = made(tmp_path)
    np.save(tmp_path / "npy_volume" / "a_mask.npy", np.full(volume.shape, 14, np.uint8))
    with pytest.raises(ValueError, match="a_mask.npy: expected values from 0 to 13, found 14"):
        read_vessels(tmp_path, "a")
    np.save(tmp_path / "npy_volume" / "a_mask.npy", np.zeros((1, 128, 128), np.uint8))
    with pytest.raises(ValueError, match="a_mask.npy: expected the shape"):
        read_vessels(tmp_path, "a")
    (tmp_path / "npy_volume" / "a.json").write_text(json.dumps({"shape": 1})[:-3])
    with pytest.raises(ValueError, match="a.json: expected JSON, found a damaged file"):
        read_geometry(tmp_path, "a")
    with pytest.raises(ValueError, match="b.json: not there"):
        read_geometry(tmp_path, "b")
