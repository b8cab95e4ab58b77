"""Training data of stage 2: features and labels of series, labels of their slices, and augmentation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aneurysm.cache.features import SeriesFeatures, n_sampled_slices, read_features, read_sampling
from aneurysm.folds.spots import excluded_series
from aneurysm.folds.targets import NONE, Localizers, localizers_by_series
from aneurysm.labels import LABELS, MIRROR
from aneurysm.paths import ModelPaths
from aneurysm.stage2.config import JitterConfig, LossConfig, Stage2Config, TokensConfig
from aneurysm.stage2.tokens import KINDS, PER_SLICE, header_modality, modality_index, series_tokens, thinned

BY_HEADER = torch.tensor([0, *(modality_index(header_modality(kind)) for kind in KINDS)])  # of each modality index
SAMPLE_STREAM = 1  # separates the random numbers of samples from those of their order


@dataclass(frozen=True)
class SliceLocalizers:
    """Positions of the aneurysms of each series along the slice axis, for slice labels."""

    localizers: Mapping[str, Localizers]
    excluded: frozenset[str]  # series with aneurysms of unknown position

    @classmethod
    def of(cls, series: pd.DataFrame, spots: pd.DataFrame, unplaced: pd.DataFrame) -> SliceLocalizers:
        """From the tables of create_folds.py: series, spots and unplaced localizers."""
        excluded = excluded_series(series, spots[spots.kind == "positive"], unplaced)
        return cls(localizers_by_series(spots), frozenset(excluded))

    def labels(self, uid: str, position_mm: np.ndarray, config: LossConfig) -> np.ndarray:
        """(slices, 14) float32 labels of the localizers within slice_mm of each slice.

        A row is all NaN if the nearest localizer is between slice_mm and clear_mm away, or the series is excluded.
        """
        found = np.full((len(position_mm), len(LABELS)), np.nan, np.float32)
        if uid in self.excluded:
            return found
        here = self.localizers.get(uid, NONE)
        for row, mm in zip(found, position_mm, strict=True):
            shown = here.near(mm, config.slice_mm)
            if len(shown.points) or not len(here.near(mm, config.clear_mm).points):
                row[:] = shown.labels()
        return found


def augment(tokens: dict[str, Tensor], config: JitterConfig, rng: np.random.Generator) -> dict[str, Tensor]:
    """Randomly augmented tokens of a series; keeps at least one slice."""
    kept = torch.from_numpy(drawn_slices(tokens["depth_mm"].numpy(), config, rng))
    tokens = {name: tensor[kept] if name in PER_SLICE else tensor for name, tensor in tokens.items()}
    stretch = 1 + rng.uniform(-config.stretch, config.stretch)
    shift_mm = rng.uniform(-config.shift_mm, config.shift_mm)
    tokens["depth_mm"] = tokens["depth_mm"] * stretch + shift_mm
    for name in ("logits", "heatmap_max"):
        if name in tokens:
            tokens[name] = tokens[name] + _noise(tokens[name], config.logit_noise, rng)
    for name in ("features", "peak_features"):
        if name in tokens:
            numbers = tokens[name]
            own_sd = float(numbers[numbers.isfinite()].std(correction=0))  # values beyond float16 are infinite
            tokens[name] = numbers + _noise(numbers, config.feature_noise * own_sd, rng)
    for name in ("modality", "plane"):
        if rng.random() < config.unknown_p:
            tokens[name] = torch.zeros_like(tokens[name])
    if rng.random() < config.header_modality_p:
        tokens["modality"] = BY_HEADER[tokens["modality"]]
    return tokens


def drawn_slices(depth_mm: np.ndarray, config: JitterConfig, rng: np.random.Generator) -> np.ndarray:
    """Indices of a random subset: every n-th slice, at most thin_to_mm apart, with some dropped; at least one."""
    spacing_mm = float(np.median(np.abs(np.diff(depth_mm)))) if len(depth_mm) > 1 else np.inf
    largest_step = max(1, int(config.thin_to_mm / max(spacing_mm, 1e-3)))
    step = int(rng.integers(1, min(largest_step, len(depth_mm)) + 1))
    kept = np.arange(int(rng.integers(step)), len(depth_mm), step)
    stays = rng.random(len(kept)) >= config.drop_p
    stays[rng.integers(len(kept))] = True
    return kept[stays]


def _noise(like: Tensor, sd: float, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(like.shape, np.float32) * np.float32(sd))


@dataclass(frozen=True)
class TrainingTable:
    """The training series with their features files."""

    series: pd.DataFrame  # rows of train_{F}_folds.csv with features, `path` of the file and `n_sampled` slices
    n_missing: int  # series without features, left out

    @classmethod
    def without_fold(
        cls, series: pd.DataFrame, model_paths: ModelPaths, fold: int | None, config: TokensConfig
    ) -> TrainingTable:
        """The series of all folds but `fold`; `series` are all rows of train_{F}_folds.csv.

        Raises ValueError naming the feature folders without any of these series.
        """
        others = series[series.fold != fold]
        encoders = others.fold if config.cross_fitted else [fold] * len(others)
        folders = [model_paths.features(own) for own in encoders]
        paths = [folder / f"{uid}.safetensors" for folder, uid in zip(folders, others.SeriesInstanceUID, strict=True)]
        others = others.assign(path=paths, n_sampled=[n_sampled_slices(path) for path in paths])
        found = others.n_sampled > 0
        empty = set(folders) - {path.parent for path in others.path[found]}
        if empty:
            raise ValueError(
                f"{', '.join(str(folder) for folder in sorted(empty))}: expected features of the series to train on, "
                f"found none; extract_features.py{'' if config.cross_fitted else ' --own_fold false'} makes them"
            )
        return cls(others[found].reset_index(drop=True), int((~found).sum()))

    @property
    def sampling(self) -> dict[str, Any]:
        """`views` and `slice_spacing_mm` of all features; ValueError naming two files that differ in them."""
        first: dict[str, Path] = {}
        for path in self.series.path:
            first.setdefault(json.dumps(read_sampling(path)), path)
        if len(first) > 1:
            (one, path), (other, other_path) = list(first.items())[:2]
            raise ValueError(f"{path}: expected features sampled alike, found {one}; in {other_path}, {other}")
        return json.loads(next(iter(first)))

    @property
    def prevalence(self) -> np.ndarray:
        """(14,) fraction of positives per label, in (0, 1): adds half a positive and half a negative series."""
        labels = self.series[list(LABELS)].to_numpy(np.float32)
        return (labels.sum(axis=0) + 0.5) / (len(labels) + 1)

    def text(self, config: TokensConfig) -> str:
        """A summary of the training series in one line."""
        n_slices = self.series.n_sampled
        n_thinned = int((n_slices > config.max_slices).sum())
        return (
            f"{len(self.series)} series of {n_slices.min()} to {n_slices.max()} slices, {n_thinned} of them thinned to "
            f"{config.max_slices}; {self.n_missing} series without features left out"
        )


def uid_hashes(series_uids: Iterable[str]) -> set[str]:
    """The first 8 hexadecimal digits of the SHA-256 of each SeriesInstanceUID, to detect series used in training."""
    return {hashlib.sha256(uid.encode()).hexdigest()[:8] for uid in series_uids}


def check_unseen(about: dict[str, Any], series_uids: Sequence[str], source: Path) -> None:
    """Raises ValueError naming `source` if the model of `about`, a checkpoint's config, was trained on any series."""
    seen = uid_hashes(series_uids) & set(about.get("trained_on", "").split())
    if seen:
        raise ValueError(
            f"{source}: expected series that the model has not seen, found {len(seen)} of {len(series_uids)} that it "
            "was trained on"
        )


class TrainingSeries(Dataset):
    """Every series once per epoch; items are indexed by (epoch, sample) and depend only on these and the seed.

    An item has the tensors of tokens.py, labels (14,) and, if slice_weight is not 0, slice_labels (slices, 14).
    """

    def __init__(self, table: TrainingTable, config: Stage2Config, localizers: SliceLocalizers):
        self.config, self.localizers = config, localizers
        series = table.series
        self.uids = series.SeriesInstanceUID.tolist()
        self.rows = list(zip(series.path, series.series_type, series.plane, strict=True))
        self.labels = series[list(LABELS)].to_numpy(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def name_of(self, key: tuple[int, int]) -> str:
        """The SeriesInstanceUID of an item."""
        return self.uids[key[1]]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, number = key
        rng = np.random.default_rng([self.config.training.seed, SAMPLE_STREAM, epoch, number])
        path, modality, plane = self.rows[number]
        features, labels = read_features(path), self.labels[number]
        view = drawn_view(features, self.config.jitter.mirror_p, rng)
        if view == "mirror":
            labels = labels[list(MIRROR)]
        tokens = series_tokens(features, view, modality, plane, self.config.tokens)
        if self.config.loss.slice_weight:
            tokens["slice_labels"] = self._slice_labels(self.uids[number], features, view)
        return augment(tokens, self.config.jitter, rng) | {"labels": torch.tensor(labels)}

    def _slice_labels(self, uid: str, features: SeriesFeatures, view: str) -> Tensor:
        """(slices, 14) labels of the slices that series_tokens selects, for this view."""
        kept = thinned(len(features.slice), self.config.tokens.max_slices)
        labels = self.localizers.labels(uid, features.position_mm[kept], self.config.loss)
        return torch.from_numpy(labels[:, list(MIRROR)] if view == "mirror" else labels)

    def as_it_is(self, number: int) -> dict[str, Tensor]:
        """One series as a batch of one, without augmentation, in its first view; without `features` and labels."""
        path, modality, plane = self.rows[number]
        features, inputs = read_features(path), [name for name in self.config.tokens.inputs if name != "features"]
        config = replace(self.config.tokens, inputs=tuple(inputs))
        tokens = series_tokens(features, features.views[0], modality, plane, config)
        return {name: tensor[None] for name, tensor in tokens.items()}


def drawn_view(features: SeriesFeatures, mirror_p: float, rng: np.random.Generator) -> str:
    """`mirror` with probability `mirror_p` if available, else the first view."""
    mirrored = rng.random() < mirror_p and "mirror" in features.views
    return "mirror" if mirrored else features.views[0]
