"""A heatmap's peak, taken back to the original image and the patient: a bright dot whose place is known."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.features import SeriesFeatures
from aneurysm.cache.windows import crop_box
from aneurysm.dicom.mapping import SIZE
from aneurysm.inference.peaks import find_peaks
from aneurysm.inference.sampled import Request, SampledSeries, read_sampled
from aneurysm.labels import LOCATIONS
from aneurysm.stage1.config import InputConfig
from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, SERIES_UID, voxel_positions, write_enhanced, write_stack

INPUT = InputConfig(image_size=256, crop=(0.05, 0.95, 0.05, 0.95), crop_upright=(0.05, 0.95, 0.05, 0.95))
REQUEST = Request(CacheSettings(head_mm=120.0), 0.0, (INPUT,))
TURNED = (-1, 0, 0, 0, -1, 0)  # axial, with columns to the right and rows to the front
LEFT_MCA, RIGHT_MCA = 4, 5
FIRST = (-80.0, -70.0, 60.0)


def head_with_dot(shape: tuple[int, int, int], dot: tuple[int, int, int]) -> np.ndarray:
    """int16 HU: a head off the middle of the image, and one bright voxel (slice, row, column)."""
    row, col = np.mgrid[: shape[1], : shape[2]]
    head = np.where(np.hypot(row - 26, col - 36) < 22, 40, -1000).astype(np.int16)
    volume = np.repeat(head[None], shape[0], axis=0)
    volume[dot] = 900
    return volume


def brightest(series: SampledSeries) -> tuple[int, float, float]:
    """Window, x and y in pixels of the cache, of the brightest place that an encoder is shown."""
    shown = series.shown[0]
    own = shown.images[shown.rows[:, 1]]
    window, y, x = np.unravel_index(own.argmax(), own.shape)
    return int(window), *crop_box(INPUT, series.geometry.plane).to_cache(np.array([[x, y]], float))[0]


def features_at(series: SampledSeries, window: int, x: float, y: float, views: tuple[str, ...]) -> SeriesFeatures:
    """What a stage 1 would say whose heatmap of the left middle cerebral artery peaks at x, y in pixels of the cache.

    In the mirrored view it is the right one, and in images that hold left and right the other side.
    """
    n, share = len(series.index), ((x + 0.5) / SIZE, (y + 0.5) / SIZE)
    heatmap, peak_x, peak_y = (np.full((len(views), n, 14), value, np.float16) for value in (-6, 0.5, 0.5))
    for number, view in enumerate(views):
        mirrored = view == "mirror"
        location = RIGHT_MCA if mirrored else LEFT_MCA
        flipped = mirrored and series.geometry.plane != "sagittal"
        heatmap[number, window, location] = 2.0
        peak_x[number, window, location] = 1 - share[0] if flipped else share[0]
        peak_y[number, window, location] = share[1]
    logits, features, at_peak = (np.zeros((len(views), n, width), np.float16) for width in (14, 2, 3))
    depth_mm = series.position_mm[-1] - series.position_mm
    maps = (heatmap, peak_x, peak_y)
    return SeriesFeatures(series.index, series.position_mm, depth_mm, features, at_peak, logits, *maps, views)


@pytest.mark.parametrize(
    ("orientation", "spacing", "plane"),
    [
        (AXIAL, (4.0, 3.0, 3.0), "axial"),
        (TURNED, (4.0, 3.0, 3.0), "axial"),
        (CORONAL, (5.0, 3.0, 3.0), "coronal"),
        (SAGITTAL, (5.0, 3.0, 3.0), "sagittal"),
        (CORONAL, (1.8, 2.0, 2.0), "axial"),  # thin: re-sliced
    ],
)
def test_the_peak_lies_on_the_dot_in_the_image_and_in_the_patient(tmp_path, orientation, spacing, plane):
    shape, dot = (40, 64, 70), (30, 21, 41)
    if orientation is TURNED:
        dot = (10, 21, 41)  # its normal points up as well, and 120 mm from the top are kept
    if orientation is AXIAL:
        dot = (33, 21, 41)
    uids = write_stack(tmp_path, head_with_dot(shape, dot), orientation, spacing, FIRST)
    series = read_sampled(tmp_path, REQUEST)
    assert series.geometry.plane == plane
    expected = voxel_positions(shape, FIRST, orientation, spacing)[dot]
    for views in (("original",), ("mirror",), ("original", "mirror")):
        peaks = find_peaks([features_at(series, *brightest(series), views)], series)
        peak = max(peaks, key=lambda peak: peak.probability)
        assert peak.location == LOCATIONS[LEFT_MCA] and peak.probability == pytest.approx(
            1 / (1 + np.exp(-2)), abs=1e-3
        )
        assert (peak.x, peak.y) == pytest.approx((dot[2], dot[1]), abs=0.6)
        assert peak.sop_uid == uids[dot[0]] and peak.frame == 0
        assert np.abs(np.array(peak.patient_mm) - expected).max() < 2.0
        image = SimpleITK.ReadImage(str(peak.file))
        place = image.TransformContinuousIndexToPhysicalPoint((peak.x, peak.y, 0.0))
        assert peak.patient_mm == pytest.approx(place, abs=1e-3)


def test_other_evidence_moves_the_peak_and_learns_its_place(tmp_path):
    dot = (33, 21, 41)
    write_stack(tmp_path, head_with_dot((40, 64, 70), dot), AXIAL, (4.0, 3.0, 3.0), FIRST)
    series = read_sampled(tmp_path, REQUEST)
    window, x, y = brightest(series)
    features = features_at(series, window, x, y, ("original",))
    features.heatmap_max[0, window - 3, LEFT_MCA] = 1.0  # lower, 12 mm away

    def against_the_brightest(probability, source):
        assert np.abs(source[window, LEFT_MCA] - dot).max() < 0.6
        assert source[window - 3, LEFT_MCA, 0] == dot[0] - 3
        return np.where(np.arange(len(probability))[:, None] == window, 0.0, probability)

    peak = max(find_peaks([features], series, against_the_brightest), key=lambda peak: peak.probability)
    assert peak.slice == series.index[window - 3] and peak.location == LOCATIONS[LEFT_MCA]
    assert peak.probability == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-3)


def test_the_frame_of_a_multi_frame_file_is_named(tmp_path):
    dot = (9, 21, 41)
    volume = head_with_dot((12, 64, 70), dot) + np.int16(1000)
    path = write_enhanced(tmp_path / "e.dcm", volume, spacing=(5.0, 3.0, 3.0))
    series = read_sampled(tmp_path, REQUEST)
    x, y, k = series.mapping.to_cache(dot[2], dot[1], f"{SERIES_UID}.1", dot[0])
    features = features_at(series, series.index.tolist().index(k), x, y, ("original",))
    peak = max(find_peaks([features], series), key=lambda peak: peak.probability)
    assert (peak.file, peak.sop_uid, peak.frame) == (path, f"{SERIES_UID}.1", dot[0])
    assert (peak.x, peak.y) == pytest.approx((dot[2], dot[1]), abs=0.6)
    assert peak.patient_mm == pytest.approx((3 * peak.x, 3 * peak.y, 45), abs=1e-6)


def test_a_peak_outside_the_images_and_a_model_without_heatmaps_give_no_peak(tmp_path):
    """The head reaches the image's left edge: the cache is padded there."""
    volume = np.roll(head_with_dot((40, 64, 70), (33, 21, 41)), -14, axis=2)
    write_stack(tmp_path, volume, AXIAL, (4.0, 3.0, 3.0), FIRST)
    series = read_sampled(Path(tmp_path), REQUEST)
    assert series.mapping.crop.left < -1
    features = features_at(series, *brightest(series), ("original",))
    features.peak_x[0, :, LEFT_MCA] = 0.01
    names = [peak.location for peak in find_peaks([features], series)]
    assert LOCATIONS[LEFT_MCA] not in names and LOCATIONS[RIGHT_MCA] in names
    features.heatmap_max[:] = np.nan
    assert find_peaks([features], series) == ()
