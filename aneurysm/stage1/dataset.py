"""Datasets of stage 1: training windows, redrawn each epoch, and windows for evaluation and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aneurysm.cache.cache import Cache
from aneurysm.cache.vessel_masks import in_blocks
from aneurysm.cache.windows import Box, crop_box, read_window
from aneurysm.dicom.geometry import left_right_in_columns
from aneurysm.folds.targets import NONE, Localizers, ball_target, localizers_by_series
from aneurysm.labels import LABELS
from aneurysm.stage1.config import InputConfig, Stage1Config
from aneurysm.stage1.sample import Sample, mirror, random_crop
from aneurysm.training.losses import UNKNOWN

SAMPLE_STREAM = 1  # separates the random numbers of samples from those of their order


class TrainingWindows(Dataset):
    """`positive_repeats` windows per slice with a positive spot in the crop, `negatives_per_series` per series with
    negative spots.

    Items are indexed by (epoch, sample) and depend only on these and the seed. `spots` are the training rows of
    train_stage1_{F}_folds.csv, `hard` maps SeriesInstanceUID to slice indices of hard negatives. Raises ValueError if
    settings contradict each other or a hard negative is not a slice of its series.
    """

    def __init__(self, cache: Cache, spots: pd.DataFrame, hard: Mapping[str, np.ndarray], config: Stage1Config):
        from aneurysm.stage1.transforms import augment, make_pipeline  # here: inference does not need albumentations

        _check_settings(config)
        self.cache, self.hard, self.config = cache, hard, config
        self.augment = partial(augment, pipeline=make_pipeline(config.augment))
        self.localizers = localizers_by_series(spots)
        self.plane = spots.drop_duplicates("SeriesInstanceUID").set_index("SeriesInstanceUID").plane.to_dict()
        spots = shown_spots(spots, config.input)
        positives = spots[spots.kind == "positive"].drop_duplicates(["SeriesInstanceUID", "slice"])
        self.positives = list(positives[["SeriesInstanceUID", "slice"]].itertuples(index=False, name=None))
        negatives = spots[spots.kind == "negative"].groupby("SeriesInstanceUID").slice
        self.negatives = [(uid, slices.to_numpy()) for uid, slices in negatives]
        self._check_hard()

    def __len__(self) -> int:
        sampling = self.config.sampling
        return len(self.positives) * sampling.positive_repeats + len(self.negatives) * sampling.negatives_per_series

    def name_of(self, key: tuple[int, int]) -> str:
        """The SeriesInstanceUID of an item."""
        return self._draw_place(key[1], self._rng(key))[0]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        rng = self._rng(key)
        series_uid, index = self._draw_place(key[1], rng)
        sample = self._sample(series_uid, self._shifted(series_uid, index, rng), rng)
        sample = self.augment(sample, seed=int(rng.integers(2**62)))
        if rng.random() < self.config.sampling.mirror_p:
            sample = mirror(sample, self.plane[series_uid])
        sample = random_crop(sample, self.config.sampling.cut_size, self.config.sampling.away_p, rng)
        return _tensors(sample, self.pixel_mm(series_uid), self.config)

    def pixel_mm(self, series_uid: str) -> tuple[float, float]:
        """(column, row) spacing of the input pixels in mm, before augmentation."""
        meta, box = self.cache.meta(series_uid), crop_box(self.config.input, self.plane[series_uid])
        across, down = meta["cached_col_mm"] * box.width, meta["cached_row_mm"] * box.height
        return across / box.image_size, down / box.image_size

    def _rng(self, key: tuple[int, int]) -> np.random.Generator:
        return np.random.default_rng([self.config.training.seed, SAMPLE_STREAM, *key])

    def _check_hard(self) -> None:
        for uid in self.hard.keys() & {uid for uid, _ in self.negatives}:
            highest, n_slices = max(self.hard[uid], default=0), self.cache.n_slices(uid)
            if highest >= n_slices:
                raise ValueError(f"hard negatives of series {uid}: expected slices below {n_slices}, found {highest}")

    def _draw_place(self, number: int, rng: np.random.Generator) -> tuple[str, int]:
        """SeriesInstanceUID and slice index of a sample."""
        n_positive = len(self.positives) * self.config.sampling.positive_repeats
        if number < n_positive:
            return self.positives[number % len(self.positives)]
        series_uid, slices = self.negatives[(number - n_positive) % len(self.negatives)]
        hard = self.hard.get(series_uid, ())
        if len(hard) and rng.random() < self.config.sampling.hard_p:
            slices = hard
        return series_uid, int(rng.choice(slices))

    def _shifted(self, series_uid: str, index: int, rng: np.random.Generator) -> int:
        """Slice index after a random shift of at most shift_mm, drawn alike for positives and negatives."""
        shift_mm = self.config.sampling.shift_mm
        position_mm = self.cache.position_mm(series_uid)
        wanted = position_mm[index] + rng.uniform(-shift_mm, shift_mm)
        moved = int(np.abs(position_mm - wanted).argmin())
        return moved if abs(position_mm[moved] - position_mm[index]) <= shift_mm else index

    def _sample(self, series_uid: str, index: int, rng: np.random.Generator) -> Sample:
        sampling = self.config.sampling
        shift = tuple(rng.uniform(-sampling.crop_shift, sampling.crop_shift, 2))
        box = crop_box(self.config.input, self.plane[series_uid], shift)
        apart_mm = rng.uniform(*sampling.neighbour_range_mm)
        image = read_window(self.cache, series_uid, index, apart_mm, box, self.config.input.n_slices)
        near = self.localizers.get(series_uid, NONE).near(self.cache.position_mm(series_uid)[index], sampling.label_mm)
        near = near.subset(box.shows(near.points))
        vessels = self._vessels(series_uid, index, box)
        return Sample(image, box.to_input(near.points).astype(np.float32), near.locations, vessels)

    def _vessels(self, series_uid: str, index: int, box: Box) -> np.ndarray | None:
        if self.config.heads.vessel_weight == 0:
            return None
        vessels = self.cache.vessels(series_uid, index)
        return None if vessels is None else box.resized(vessels[box.part], nearest=True)


class EvalWindows(Dataset):
    """Windows without augmentation, for prediction; item i is row i of `places` (SeriesInstanceUID, slice, plane)."""

    def __init__(self, cache: Cache, places: pd.DataFrame, config: InputConfig):
        self.cache, self.config = cache, config
        self.places = list(places[["SeriesInstanceUID", "slice", "plane"]].itertuples(index=False, name=None))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        series_uid, index, plane = self.places[number]
        box = crop_box(self.config, plane)
        image = read_window(self.cache, series_uid, index, self.config.neighbour_mm, box, self.config.n_slices)
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1),
            "number": torch.tensor(number),
            "left_right_in_columns": torch.tensor(left_right_in_columns(plane)),
        }


def label_windows(
    places: pd.DataFrame, localizers: Mapping[str, Localizers], label_mm: float, config: InputConfig
) -> np.ndarray:
    """(rows, 14) float32 labels of the windows in `places`: of the localizers within label_mm and inside the crop."""
    labels = []
    for uid, mm, plane in zip(places.SeriesInstanceUID, places.position_mm, places.plane, strict=True):
        near = localizers.get(uid, NONE).near(mm, label_mm)
        labels.append(near.subset(crop_box(config, plane).shows(near.points)).labels())
    return np.array(labels, np.float32).reshape(-1, len(LABELS))


def shown_spots(spots: pd.DataFrame, config: InputConfig) -> pd.DataFrame:
    """The spots, except positive ones whose localizer lies outside the crop."""
    shown = [
        kind != "positive" or bool(crop_box(config, plane).shows((x, y))[0])
        for kind, plane, x, y in spots[["kind", "plane", "x", "y"]].itertuples(index=False, name=None)
    ]
    return spots[np.array(shown, bool)]


def _check_settings(config: Stage1Config) -> None:
    sampling, stride = config.sampling, config.heads.heatmap_stride
    if sampling.shift_mm > sampling.label_mm:
        raise ValueError(f"shift_mm {sampling.shift_mm}: expected at most label_mm, {sampling.label_mm}")
    if sampling.cut_size < 0 or sampling.cut_size % stride:  # else heatmap and target would differ in size
        raise ValueError(f"cut_size {sampling.cut_size}: expected 0 or a multiple of heatmap_stride, {stride}")


def _tensors(sample: Sample, pixel_mm: tuple[float, float], config: Stage1Config) -> dict[str, Tensor]:
    """The sample as a dict of tensors for model and loss, with targets only for the configured heads."""
    size, stride, heads = len(sample.image), config.heads.heatmap_stride, config.heads
    tensors = {
        "image": torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1),
        "labels": torch.from_numpy(sample.labels),
    }
    if heads.heatmap_weight:
        loss, where = config.loss, (sample.points[:, ::-1], sample.point_locations, pixel_mm[::-1])
        tensors["corner"] = torch.tensor(sample.corner, dtype=torch.float32)
        tensors["sac"] = torch.from_numpy(ball_target(*where, (size // stride,) * 2, stride, loss.disc_mm, loss.rim_mm))
    if heads.vessel_weight:
        unknown = np.full((size // stride,) * 2, UNKNOWN, np.uint8)
        target = unknown if sample.vessels is None else in_blocks(sample.vessels, stride)
        tensors["vessels"] = torch.from_numpy(target)
    return tensors
