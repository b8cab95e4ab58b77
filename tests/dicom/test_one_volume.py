"""Of images at the same positions, or between one another, one whole volume is chosen by a rule, never a mixture."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from aneurysm.dicom.series import Series, read_series
from tests.dicom_writer import ramp, warned, write_enhanced, write_image

N = 6
FIRST = ramp((N, 6, 8))
SECOND = FIRST + np.int16(1000)


def write_volume(
    folder: Path, volume: np.ndarray, name: str, z0: float = 0.0, order: int = 0, each=lambda i: {}, **tags
) -> None:
    """One file a slice, 5 mm apart from `z0` on; SOP Instance UIDs and file names begin with `name`."""
    for i, pixels in enumerate(volume):
        own = {"SOPInstanceUID": uid_of(name, i), "InstanceNumber": order + i + 1, "SliceThickness": 5,
               "ImagePositionPatient": [0, 0, z0 + 5 * i]}  # fmt: skip
        write_image(folder / f"{name}-{i}.dcm", pixels, **(own | tags | each(i)))


def uid_of(name: str, i: int) -> str:
    return f"1.{int.from_bytes(name.encode())}.{i}"


def is_volume(series: Series, volume: np.ndarray) -> bool:
    return series.pixels.shape == volume.shape and bool((series.pixels == volume).all())


@pytest.mark.parametrize(
    ("chosen", "other"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "R_FFE", "R"]}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, {"ImageType": ["DERIVED", "SECONDARY", "MIP"]}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MPR"]}),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, {"ImageType": ["DERIVED", "PRIMARY"]}),
        ({"ComplexImageComponent": "MAGNITUDE"}, {"ComplexImageComponent": "PHASE"}),
        ({"EchoTime": 3.5}, {"EchoTime": 20}),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ({"AcquisitionTime": "090000"}, {"AcquisitionTime": "090100.5"}),
        ({"TriggerTime": 10}, {"TriggerTime": 400}),
        ({"ContentTime": "235900"}, {"ContentTime": "235901"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("z0", [0.0, 0.4, -2.0])
def test_of_two_mr_volumes_one_is_kept_whole_by_what_tells_them_apart(tmp_path, chosen, other, z0):
    if z0 and set(chosen) & {"ContentTime", "TriggerTime", "AcquisitionTime"}:
        chosen, other = chosen | {"AcquisitionNumber": 4}, other | {"AcquisitionNumber": 7}
    write_volume(tmp_path, SECOND, "a", z0, order=0, Modality="MR", **other)  # its numbers and names come first
    write_volume(tmp_path, FIRST, "b", order=N, Modality="MR", **chosen)
    series = read_series(tmp_path)
    assert is_volume(series, FIRST)
    assert warned(series, f"{N} images repeat the position of another or lie between others") and warned(
        series, "a-0.dcm"
    )
    # a localizer on an image that was left out lands on the slice that stands for it
    assert series.to_cache(3, 2, uid_of("a", 2)) == series.to_cache(3, 2, uid_of("b", 2))


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "AcquisitionTime", "InstanceNumber", "ContentTime"])
@pytest.mark.parametrize("contrast_first", [False, True])
def test_of_two_ct_phases_the_one_with_contrast_is_kept(tmp_path, tag, contrast_first):
    plain = np.full((N, 16, 16), 40, np.int16)
    contrast = plain.copy()
    contrast[:, 4:6, 4:8] = 300
    volumes = (contrast, plain) if contrast_first else (plain, contrast)
    for number, volume in enumerate(volumes, 1):
        write_volume(tmp_path, volume, f"{number}", **{tag: f"{101000 + number}"})
    assert is_volume(read_series(tmp_path), contrast)


def test_a_phase_of_half_the_head_is_not_chosen_for_its_contrast(tmp_path):
    plain = np.full((N, 16, 16), 40, np.int16)
    write_volume(tmp_path, plain, "1", AcquisitionNumber=1)
    write_volume(tmp_path, plain[:3] + np.int16(260), "2", AcquisitionNumber=2)
    assert is_volume(read_series(tmp_path), plain)


def test_of_two_kernels_the_softer_is_kept(tmp_path):
    noise = np.random.default_rng(0).normal(0, 1, (N, 16, 16))
    for name, sd in (("Hr68", 60), ("Br38", 5)):
        write_volume(tmp_path, (40 + sd * noise).astype(np.int16), name[2:], ConvolutionKernel=name)
    assert is_volume(read_series(tmp_path), (40 + 5 * noise).astype(np.int16))


def test_times_that_differ_in_every_image_tell_two_runs_apart_even_where_one_image_is_missing(tmp_path):
    for name, volume, start in (("b", FIRST, 101000), ("a", SECOND, 101030)):
        write_volume(tmp_path, volume, name, Modality="MR", each=lambda i, s=start: {"AcquisitionTime": f"{s + 2 * i}"})
    (tmp_path / "b-3.dcm").unlink()
    series = read_series(tmp_path)
    assert is_volume(series, np.delete(FIRST, 3, axis=0)) and warned(series, "unevenly spaced")


def test_images_of_each_slice_in_turn_are_told_apart_by_their_numbers(tmp_path):
    for number, volume in enumerate((FIRST, SECOND)):
        write_volume(
            tmp_path, volume, f"{number}", Modality="MR", each=lambda i, n=number: {"InstanceNumber": 2 * i + n}
        )
    assert is_volume(read_series(tmp_path), FIRST)


def test_an_acquisition_number_that_changes_on_the_way_up_leaves_one_volume(tmp_path):
    write_volume(
        tmp_path, FIRST, "a", each=lambda i: {"AcquisitionNumber": 1 + i // 2, "AcquisitionTime": f"{101010 + i}"}
    )
    series = read_series(tmp_path)
    assert is_volume(series, FIRST) and series.warnings == []


def test_slices_acquired_alternately_are_one_volume(tmp_path):
    tags = {"Modality": "MR", "SliceThickness": 4, "SpacingBetweenSlices": 5}
    write_volume(tmp_path, FIRST, "a", each=lambda i: tags | {"AcquisitionNumber": 1 + i % 2})
    series = read_series(tmp_path)
    assert is_volume(series, FIRST) and series.warnings == []


def test_two_blocks_that_overlap_by_a_slice_are_one_volume(tmp_path):
    write_volume(tmp_path, FIRST, "a", Modality="MR", AcquisitionNumber=1)
    write_volume(tmp_path, SECOND[:4], "b", 25.0, order=N, Modality="MR", AcquisitionNumber=2)
    series = read_series(tmp_path)
    assert is_volume(series, np.concatenate([FIRST, SECOND[1:4]])) and warned(series, "1 images repeat the position")


def test_images_of_one_place_that_nothing_tells_apart_are_refused_rather_than_mixed(tmp_path):
    for name, volume in (("a", FIRST), ("b", SECOND)):
        write_volume(tmp_path, volume, name)
    with pytest.raises(ValueError, match=f"one image at each position, found {N} more of other content"):
        read_series(tmp_path)


@pytest.mark.parametrize("position", [[0, 0, 0], None])
def test_copies_of_a_file_count_once(tmp_path, position):
    place = {"ImagePositionPatient": None} if position is None else {}
    write_volume(tmp_path / "a", FIRST, "a", each=lambda i: place)
    shutil.copytree(tmp_path / "a", tmp_path / "copy of a")
    series = read_series(tmp_path)
    assert is_volume(series, FIRST) and warned(series, f"{N} images are copies of others and count once")


@pytest.mark.parametrize("numbers", [(1, 2), (1, 1)])
def test_of_two_multi_frame_files_at_the_same_positions_one_is_kept_whole(tmp_path, numbers):
    for name, volume, number in zip("ba", (FIRST, SECOND), numbers, strict=True):
        write_enhanced(tmp_path / name, volume, InstanceNumber=number, SOPInstanceUID=f"1.{number}.{name == 'a':d}")
    assert is_volume(read_series(tmp_path), FIRST)


@pytest.mark.parametrize("order", ["volume after volume", "slice by slice"])
def test_frames_that_only_their_order_in_the_file_tells_apart(tmp_path, order):
    volume = np.concatenate([FIRST, SECOND])
    places = [i % N for i in range(2 * N)]
    if order == "slice by slice":
        volume, places = np.stack([FIRST, SECOND], axis=1).reshape(2 * N, 6, 8), [i // 2 for i in range(2 * N)]
    path = write_enhanced(tmp_path / "a.dcm", volume)
    dataset = pydicom.dcmread(path)
    for place, group in zip(places, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5 * place]
        group.FrameContentSequence[0].InStackPositionNumber = place + 1
    dataset.save_as(path)
    assert is_volume(read_series(path), FIRST)


@pytest.mark.parametrize("tag", ["EffectiveEchoTime", "ComplexImageComponent"])
def test_frames_of_two_volumes_in_one_file_are_told_apart_by_their_groups(tmp_path, tag):
    volume = np.stack([FIRST, SECOND], axis=1).reshape(2 * N, 6, 8)
    path = write_enhanced(tmp_path / "a.dcm", volume)
    dataset = pydicom.dcmread(path)
    for i, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5 * (i // 2)]
        group.FrameContentSequence[0].InStackPositionNumber = i // 2 + 1
        inner = pydicom.Dataset()
        if tag == "EffectiveEchoTime":
            inner.EffectiveEchoTime = (30.0, 5.0)[i % 2]
            group.MREchoSequence = [inner]
        else:
            inner.FrameType, inner.ComplexImageComponent = ["ORIGINAL", "PRIMARY"], ("PHASE", "MAGNITUDE")[i % 2]
            group.MRImageFrameTypeSequence = [inner]
    dataset.save_as(path)
    assert is_volume(read_series(path), SECOND)
