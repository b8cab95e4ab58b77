"""Asking stage 1: the order of answers, heatmap peaks, and whole series slice by slice."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from aneurysm.cache.windows import sampled_slices
from aneurysm.labels import LABELS, LOCATIONS, MIRROR
from aneurysm.stage1.config import InputConfig, ModelConfig, Stage1Config
from aneurysm.stage1.predict import (
    heatmap_candidates,
    heatmap_peaks,
    predict_series_slices,
    predict_windows,
    slice_places,
)
from aneurysm.training.config import InferenceConfig
from aneurysm.training.distributed import DistContext
from tests.stage1_cache import CACHED_MM, one_series, write_series

torch.set_num_threads(1)

ALONE = DistContext(0, 1, torch.device("cpu"))
CONFIG = Stage1Config(input=InputConfig(image_size=32), heads=ModelConfig(heatmap_stride=8))
NOTHING = -40.0  # logit of a probability that is nothing in float32


def logits_of(pixels: dict[tuple[int, int], float], n: int = 4) -> torch.Tensor:
    """(n, n) logits: these probabilities at (row, column), nothing elsewhere."""
    heatmap = torch.full((n, n), NOTHING)
    for where, probability in pixels.items():
        heatmap[where] = math.log(probability / (1 - probability))
    return heatmap


@pytest.mark.parametrize(
    ("pixels", "highest", "column", "row"),
    [
        ({(1, 2): 0.9}, 0.9, 2, 1),
        ({(1, 1): 0.6, (1, 2): 0.2}, 0.6, 1.25, 1),  # a quarter of the mass one pixel to the right
        ({(1, 1): 0.6, (2, 1): 0.3, (0, 1): 0.1}, 0.6, 1, 1.2),  # 0.3 below and 0.1 above, of 1
        ({(2, 2): 0.6, (1, 1): 0.2}, 0.6, 1.75, 1.75),
        ({(0, 0): 0.8}, 0.8, 0, 0),  # the corners: what lies beyond the map counts nothing
        ({(3, 3): 0.8, (3, 2): 0.2}, 0.8, 2.8, 3),
        ({(0, 3): 0.8, (3, 0): 0.7}, 0.8, 3, 0),  # a second peak far away does not pull at the first
    ],
)
def test_a_peak_is_the_centre_of_mass_around_the_highest_pixel_in_pixels_of_the_input(pixels, highest, column, row):
    found, xy = heatmap_peaks(logits_of(pixels).sigmoid(), stride=8)
    assert found.item() == pytest.approx(highest, abs=1e-5)
    # The middle of heatmap pixel i lies at 8 i + 3.5: it covers the input pixels 8 i to 8 i + 7.
    np.testing.assert_allclose(xy, [8 * column + 3.5, 8 * row + 3.5], atol=1e-3)


def test_the_peaks_of_many_maps_keep_their_places():
    maps = torch.stack([logits_of({(i // 4, i % 4): 0.05 * (i + 1)}) for i in range(12)]).reshape(3, 4, 4, 4)
    highest, xy = heatmap_peaks(maps.sigmoid(), stride=16)
    np.testing.assert_allclose(highest.flatten(), 0.05 * np.arange(1, 13), atol=1e-5)
    np.testing.assert_allclose(
        xy.reshape(12, 2), 16 * np.array([divmod(i, 4)[::-1] for i in range(12)]) + 7.5, atol=1e-3
    )


def test_the_peak_of_a_blob_lies_within_half_a_pixel_of_the_map_of_its_point():
    centres = torch.arange(16) * 8 + 3.5
    for x, y in np.random.default_rng(0).uniform(-0.5, 127.5, (40, 2)):
        blob = torch.exp(-((centres - x) ** 2)[None] / 128 - ((centres - y) ** 2)[:, None] / 128)
        _, xy = heatmap_peaks(blob, stride=8)
        at_border = min(x, y, 127 - x, 127 - y) < 8  # half of the blob is cut away there
        assert np.abs(xy.numpy() - [x, y]).max() < (8 if at_border else 4.01)


class Reader(nn.Module):
    """Answers with the middle slice's mean as the probability of each label, and heatmap at its brightest fields."""

    def __init__(self, with_heatmap: bool = True):
        super().__init__()
        self.with_heatmap = with_heatmap

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        mean = images[:, 1].mean(dim=(1, 2)).clamp(1e-3, 1 - 1e-3)
        prediction = {"logits": torch.logit(mean)[:, None] + torch.arange(14) / 10}
        if self.with_heatmap:
            fields = nn.functional.avg_pool2d(images[:, 1:2], 8)
            heatmap = torch.where(fields == fields.amax(dim=(2, 3), keepdim=True), 2.0, NOTHING)
            prediction["heatmap"] = heatmap.repeat(1, 14, 1, 1)
        return prediction


class Filled(torch.utils.data.Dataset):
    """Window i is filled with i / 100."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"image": torch.full((3, 32, 32), number / 100), "number": torch.tensor(number)}


@pytest.mark.usefixtures("native_format")
@pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
def test_answers_come_in_the_order_of_the_windows_whatever_the_batches(batch_size):
    predictions = predict_windows(Reader(), Filled(), CONFIG, ALONE, InferenceConfig(batch_size=batch_size, workers=0))
    odds = np.maximum(np.arange(10) / 100, 1e-3)
    expected = 1 / (1 + (1 - odds) / odds)
    np.testing.assert_allclose(predictions.probability[:, 0], expected, rtol=1e-4)
    assert predictions.probability.shape == (10, 14) and predictions.heatmap_max.shape == (10, 14)
    assert predictions.heatmap_xy.shape == (10, 14, 2) and np.isfinite(predictions.heatmap_xy).all()
    np.testing.assert_allclose(predictions.heatmap_max, 1 / (1 + np.exp(-2.0)), rtol=1e-5)
    assert (np.diff(predictions.probability, axis=1) > 0).all()  # the labels keep their order too


@pytest.mark.usefixtures("native_format")
def test_with_mirror_images_the_answer_is_the_mean_of_both_told_of_the_head_as_it_is():
    class Sides(nn.Module):
        """Of the first location what it sees in the left half, of Aneurysm Present what it sees in the slice below."""

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = torch.zeros(len(images), 14)
            logits[:, 0] = images[:, 1, :, :16].mean(dim=(1, 2))  # the left half of the middle slice
            logits[:, 13] = images[:, 0].mean(dim=(1, 2))  # the slice below
            return {"logits": logits}

    class Two(Filled):
        """An axial and a sagittal window: values are the column's side and the slice."""

        def __len__(self) -> int:
            return 2

        def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
            image = torch.tensor([1.0, 2.0, 3.0])[:, None, None] * torch.ones(3, 32, 32)
            image[:, :, 16:] *= 2
            return {"image": image, "number": torch.tensor(number), "left_right_in_columns": torch.tensor(number == 0)}

    predictions = predict_windows(Sides(), Two(), CONFIG, ALONE, InferenceConfig(batch_size=2, workers=0), tta="mirror")
    s = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    assert LABELS[MIRROR[0]] == LABELS[0].replace("Left", "Right")
    axial, sagittal = predictions.probability
    # Axial: the left half is 2, that of the mirror image 4; the slice below stays (mean 1.5).
    assert axial[[0, MIRROR[0], 13]] == pytest.approx([(s(2) + 0.5) / 2, (0.5 + s(4)) / 2, s(1.5)])
    # Sagittal: columns stay, the slice below becomes the one above (mean 4.5).
    assert sagittal[[0, MIRROR[0], 13]] == pytest.approx([(s(2) + 0.5) / 2, (0.5 + s(2)) / 2, (s(1.5) + s(4.5)) / 2])


@pytest.mark.usefixtures("native_format")
def test_answers_of_several_processes_are_put_together_in_order():
    class Gathering(DistContext):
        """Both processes, one after the other: what each would send."""

        def gather(self, rows: np.ndarray) -> np.ndarray:
            sent.append(rows)
            return np.concatenate(sent)

    sent: list[np.ndarray] = []
    for rank in (0, 1):
        predictions = predict_windows(
            Reader(),
            Filled(),
            CONFIG,
            Gathering(rank, 2, torch.device("cpu")),
            InferenceConfig(batch_size=3, workers=0),
        )
    alone = predict_windows(Reader(), Filled(), CONFIG, ALONE, InferenceConfig(batch_size=3, workers=0))
    assert [len(rows) for rows in sent] == [5, 5]
    for name in ("probability", "heatmap_max", "heatmap_xy"):
        np.testing.assert_allclose(getattr(predictions, name), getattr(alone, name))


def test_without_heatmaps_the_peaks_are_nan_and_the_probabilities_are_there():
    predictions = predict_windows(
        Reader(with_heatmap=False), Filled(), CONFIG, ALONE, InferenceConfig(batch_size=4, workers=0)
    )
    assert np.isnan(predictions.heatmap_max).all() and np.isnan(predictions.heatmap_xy).all()
    assert predictions.heatmap_max.shape == (10, 14) and np.isfinite(predictions.probability).all()


def test_slices_are_sampled_by_millimetres_from_the_first_to_the_last():
    even = np.arange(10) * 1.0
    assert sampled_slices(even, 0).tolist() == list(range(10))
    assert sampled_slices(even, 3.0).tolist() == [0, 3, 6, 9]
    assert sampled_slices(even, 0.25).tolist() == list(range(10))  # each once
    assert sampled_slices(np.array([0.0, 5.0, 10.0]), 2.0).tolist() == [0, 1, 2]
    assert sampled_slices(np.array([0, 0.9, 2.2, 2.9, 4.4]), 2.0).tolist() == [0, 2, 4]
    assert sampled_slices(np.array([7.0]), 2.0).tolist() == [0]


def test_every_slice_is_asked_about_and_peaks_are_told_in_pixels_of_the_cache(tmp_path):
    slices = np.zeros((3, 512, 512))
    slices[1, 310:350, 140:180] = 1
    slices[2] = 0.4
    cache = one_series(tmp_path, slices, np.array([10.0, 12.5, 15.0]))
    write_series(tmp_path, "up", slices[:2], np.array([1.0, 2.0]), "coronal")
    places = slice_places(cache, ["s", "up"], slice_spacing_mm=0)
    assert places.SeriesInstanceUID.tolist() == ["s"] * 3 + ["up"] * 2 and places.slice.tolist() == [0, 1, 2, 0, 1]
    assert places.position_mm.tolist() == [10.0, 12.5, 15.0, 1.0, 2.0]
    crops = InputConfig(image_size=32, crop=(0.25, 0.75, 0.25, 0.75), crop_upright=(0, 1, 0, 1))
    messages = predict_series_slices(
        Reader(), cache, places, replace(CONFIG, input=crops), ALONE, InferenceConfig(workers=0), "asked"
    )
    pd.testing.assert_frame_equal(messages[places.columns], places)
    assert messages[list(LABELS)].to_numpy().argmax(axis=0).tolist() == [2] * 14
    # A heatmap pixel is 64 cached ones wide in the axial crop, which begins at 128, and 128 in the upright one.
    # Most of the square lies in columns 128 to 191 and rows 320 to 383, or 128 to 255 and 256 to 383.
    peaks = messages.loc[[1, 4], ["Basilar Tip peak_x", "Basilar Tip peak_y"]].to_numpy()
    np.testing.assert_allclose(peaks, [[159.5, 351.5], [191.5, 319.5]], atol=0.01)

    candidates = heatmap_candidates(messages)
    assert len(candidates) == 5 * 13 and set(candidates.location) == set(LOCATIONS)
    own = candidates[(candidates.location == "Basilar Tip") & (candidates.position_mm == 12.5)]
    assert own.SeriesInstanceUID.tolist() == ["s"] and own.cached_col_mm.tolist() == [CACHED_MM]
    np.testing.assert_allclose(own[["x", "y"]], [[159.5, 351.5]], atol=0.01)
    np.testing.assert_allclose(
        candidates.probability, 1 / (1 + math.exp(-2)), rtol=0.01
    )  # nearly: bfloat16 on some CPUs
