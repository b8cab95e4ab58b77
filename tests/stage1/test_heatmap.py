"""Images, maps and vessel masks of training windows fit each other after every change, in every plane."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aneurysm.cache.cache import open_cache
from aneurysm.dicom.mapping import SIZE
from aneurysm.folds.targets import RIM
from aneurysm.labels import LOCATIONS
from aneurysm.stage1.config import AugmentConfig, InputConfig, ModelConfig, SamplingConfig, Stage1Config
from aneurysm.stage1.dataset import TrainingWindows
from tests.stage1_cache import dot, make_spots, spot, write_series
from tests.stage1_samples import NOTHING

cv2.setNumThreads(1)

LEFT, RIGHT = (LOCATIONS.index(f"{side} Middle Cerebral Artery") for side in ("Left", "Right"))
CENTRE, N_SLICES = 5, 11
PLACES = {"axial": (300.0, 190.5), "sagittal": (210.5, 330.0), "coronal": (320.0, 350.0)}
CONFIG = Stage1Config(
    input=InputConfig(image_size=128),
    heads=ModelConfig(heatmap_weight=1.0, vessel_weight=1.0, heatmap_stride=8),
    sampling=SamplingConfig(shift_mm=0, positive_repeats=60, crop_shift=0.04),
    augment=AugmentConfig(dropout_p=0),  # a hole might cover the ball
)


def write_head(data_dir, plane: str) -> TrainingWindows:
    """A ball at the localizer, a fainter one to its right in the image, and tissue that grows darker slice by slice."""
    x, y = PLACES[plane]
    tissue = np.linspace(0.35, 0.05, N_SLICES)[:, None, None] * np.ones((SIZE, SIZE))
    ball = dot(x, y, 8)
    volume = np.maximum(tissue, np.maximum(ball, 0.7 * dot(x + 60, y, 8)))
    vessels = np.broadcast_to(((ball > 0.1) * (1 + LEFT))[None], volume.shape)
    write_series(data_dir, "s", volume, 2.0 * np.arange(N_SLICES), plane, vessels)
    located = {"x": x, "y": y, "location": LOCATIONS[LEFT]}
    return TrainingWindows(
        open_cache(data_dir), make_spots([spot("s", 0, CENTRE, 2.0 * CENTRE, plane, **located)]), {}, CONFIG
    )


def brightest(image: np.ndarray) -> np.ndarray:
    """x, y of the ball in the middle slice."""
    blurred = cv2.GaussianBlur(image[1], (0, 0), 2)
    return np.array(np.unravel_index(blurred.argmax(), blurred.shape))[::-1]


def is_mirrored(image: np.ndarray, plane: str, ball: np.ndarray) -> bool:
    """Seen in the image alone: the fainter ball's side, or, in sagittal windows, which of the slices is darker."""
    if plane == "sagittal":
        return image[0].mean() < image[2].mean()
    left, right = (blob_beside(image[1], ball, side) for side in (-1, 1))
    return left > right


def blob_beside(image: np.ndarray, ball: np.ndarray, side: int) -> float:
    """The brightest pixel of a box beside the ball."""
    x, y = ball + [side * 20, 0]
    box = image[max(y - 14, 0) : y + 15, max(x - 8, 0) : max(x + 9, 0)]
    return float(box.max(initial=0))


@pytest.mark.parametrize("plane", PLACES)
def test_disc_location_and_vessels_lie_at_the_ball_of_the_changed_image(tmp_path, plane):
    windows, seen = write_head(tmp_path, plane), {False: 0, True: 0}
    for i in range(60):
        item = windows[0, i]
        image = item["image"].numpy()
        ball = brightest(image)
        if (np.minimum(ball, 127 - ball) < 24).any():
            continue  # at the border the ball is cut, or its companion has left the image
        mirrored = is_mirrored(image, plane, ball)
        seen[mirrored] += 1
        location = RIGHT if mirrored else LEFT
        assert item["labels"].nonzero()[:, 0].tolist() == [location, 13], i
        sac = item["sac"].numpy()
        assert set(np.unique(sac)) - {RIM} == {0, 1 + location}
        rows, columns = np.nonzero(sac == 1 + location)
        # A disc of pixels whose middles lie 8 apart: at most half of that, and one for the blurred maximum.
        assert np.abs([columns.mean() * 8 + 3.5 - ball[0], rows.mean() * 8 + 3.5 - ball[1]]).max() <= 4 + 1, i
        row, column = (int((v + 0.5) // 8) for v in ball[::-1])
        marked = item["vessels"].numpy()
        assert set(np.unique(marked)) == {0, 1 + location} and marked[row, column] == 1 + location
        rows, columns = np.nonzero(marked)
        assert np.abs([columns.mean() * 8 + 3.5, rows.mean() * 8 + 3.5] - ball).max() < 4
    assert min(seen.values()) > 10, "mirrored and not: both must have been tested"


def test_a_heatmap_pixel_belongs_to_the_vessel_of_lowest_number_that_runs_through_it(tmp_path):
    vessels = np.zeros((1, SIZE, SIZE))
    vessels[0, 100:116, 100] = 7  # one column wide
    vessels[0, 108, 96:200] = 3
    write_series(tmp_path, "s", np.zeros((1, SIZE, SIZE)), np.zeros(1), "axial", vessels)
    config = replace(
        CONFIG, input=InputConfig(image_size=SIZE, crop=(0, 1, 0, 1)), augment=NOTHING,
        sampling=replace(CONFIG.sampling, mirror_p=0, crop_shift=0),
    )  # fmt: skip
    windows = TrainingWindows(open_cache(tmp_path), make_spots([spot("s", 0, 0, 0.0, "axial")]), {}, config)
    target = windows[0, 0]["vessels"]
    assert target.dtype == torch.uint8 and target.shape == (64, 64)
    expected = torch.zeros((64, 64), dtype=torch.uint8)
    expected[12:15, 12] = 7  # rows 100 to 115 lie in the pixels 12, 13 and 14 of 8
    expected[13, 12:25] = 3  # row 108 in 13, columns 96 to 199 in 12 to 24
    assert torch.equal(target, expected)
