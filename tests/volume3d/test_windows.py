"""Windows of MR series: the file's own, against pydicom's; standard deviations of the head, against numpy's."""

import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.pixels import apply_voi_lut

from aneurysm.dicom.series import read_series
from tests.dicom_writer import warned, write_enhanced, write_image, write_stack
from tests.volume3d_series import made
from volume3d.windows import voi_window, zscore_window

VALUES = np.linspace(0, 3000, 64 * 64).reshape(64, 64).astype(np.uint16)


def window_of(folder: Path):
    series = read_series(folder, select=())
    return voi_window(series), series


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT"])
def test_the_window_of_a_file_gives_what_pydicom_makes_of_it(tmp_path, function):
    tags = {"WindowCenter": 700, "WindowWidth": 900, "VOILUTFunction": function, "Modality": "MR"}
    path = write_image(tmp_path / "s" / "1.dcm", VALUES, RescaleSlope=2, RescaleIntercept=-100, **tags)
    window, _ = window_of(path.parent)
    units = VALUES * 2.0 - 100
    ours = np.clip((units - window.low) / (window.high - window.low), 0, 1)
    theirs = apply_voi_lut(units, dcmread(path))
    assert ours == pytest.approx((theirs - theirs.min()) / np.ptp(theirs), abs=1e-6)
    assert 0.05 < (ours == 0).mean() < 0.5 and (ours == 1).mean() > 0.05


def test_of_several_windows_the_first_counts_and_of_several_images_the_middle_one(tmp_path):
    def each(i: int) -> dict:
        return {"WindowCenter": [100 * i, 5], "WindowWidth": [11, 7], "VOILUTFunction": "LINEAR_EXACT"}

    write_stack(tmp_path / "s", np.zeros((5, 8, 8), np.int16), each=each, Modality="MR")
    window, _ = window_of(tmp_path / "s")
    assert (window.low, window.high) == (194.5, 205.5)


def test_a_frame_has_its_window_in_its_functional_group(tmp_path):
    voi = Dataset()
    voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = 50, 20, "LINEAR_EXACT"
    path = write_enhanced(tmp_path / "s" / "1.dcm", np.zeros((3, 8, 8), np.int16), WindowCenter=900, WindowWidth=3)
    dataset = dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[1].FrameVOILUTSequence = [voi]
    dataset.save_as(path)
    window, _ = window_of(tmp_path / "s")
    assert (window.low, window.high) == (40, 60)


@pytest.mark.parametrize("name", ["FrameVOILUTSequence", "WindowCenter"])
def test_a_window_that_pydicom_does_not_know_how_to_read_counts_as_absent(tmp_path, name):
    voi, tag = Dataset(), struct.pack("<HH", *divmod(tag_for_keyword(name), 1 << 16))
    voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = 50, 20, "LINEAR_EXACT"
    tags = {"WindowCenter": 900, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}
    path = write_enhanced(tmp_path / "s" / "1.dcm", np.zeros((1, 8, 8), np.int16), **tags)
    dataset = dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[0].FrameVOILUTSequence = [voi]
    dataset.save_as(path)
    content = path.read_bytes()
    vr_at = content.rindex(tag) + 4  # the last one lies in the group of the frame
    path.write_bytes(content[:vr_at] + b"ZZ" + content[vr_at + 2 :])
    window, _ = window_of(tmp_path / "s")
    assert window is None if name == "WindowCenter" else (window.low, window.high) == (850, 950)


def test_inverted_images_have_their_window_turned_round(tmp_path):
    tags = {"WindowCenter": 100, "WindowWidth": 40, "VOILUTFunction": "LINEAR_EXACT", "Modality": "MR"}
    write_image(tmp_path / "s" / "1.dcm", VALUES, PhotometricInterpretation="MONOCHROME1", **tags)
    window, series = window_of(tmp_path / "s")
    assert (window.low, window.high) == (-120, -80) and series.scale[0] == -1


@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 5}, {"WindowCenter": 5, "WindowWidth": 0}])
def test_a_file_without_a_window_has_none(tmp_path, tags):
    write_image(tmp_path / "s" / "1.dcm", VALUES, Modality="MR", **tags)
    assert window_of(tmp_path / "s")[0] is None


def test_a_table_instead_of_a_window_is_said(tmp_path):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [2, 0, 8])
    table.add_new("LUTData", "US", [0, 255])
    write_image(tmp_path / "s" / "1.dcm", VALUES, Modality="MR", VOILUTSequence=[table])
    window, series = window_of(tmp_path / "s")
    assert window is None and warned(series, "VOI LUT is a table")


def test_the_z_score_is_that_of_the_head_by_hand():
    values, head = np.array([0.0, 10, 14, 1000]), np.array([False, True, True, False])
    window = zscore_window(values, head)  # mean 12, standard deviation 2
    assert (window.low, window.high) == (8, 24)
    flat = zscore_window(np.full(4, 7.0), np.zeros(4, bool))
    assert flat.low < 7 < flat.high


def test_the_flag_chooses_and_percentiles_stand_in_where_the_file_has_no_window(tmp_path):
    stack = np.random.default_rng(0).integers(0, 500, (6, 32, 32)).astype(np.int16)
    window = {"WindowCenter": 60, "WindowWidth": 20, "VOILUTFunction": "LINEAR_EXACT"}
    write_stack(tmp_path / "series" / "a", stack, Modality="MR", **window)
    write_stack(tmp_path / "series" / "b", stack, Modality="MR")
    found = {(name, mr): made(tmp_path, name, mr=mr)[1]["window"] for name in "ab" for mr in MR}
    assert found["a", "voi"] == [50, 70] and found["b", "voi"] == found["b", "percentiles"]
    assert found["a", "percentiles"] == found["b", "percentiles"] != found["a", "zscore"] == found["b", "zscore"]


MR = ("percentiles", "voi", "zscore")
