"""Trains and validates stage 2 on one fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from aneurysm.cache.features import SeriesFeatures, n_sampled_slices, read_features
from aneurysm.labels import LABELS
from aneurysm.metrics import history_scores
from aneurysm.paths import ModelPaths
from aneurysm.stage2.config import Stage2Config
from aneurysm.stage2.dataset import SliceLocalizers, TrainingSeries, TrainingTable, check_unseen, uid_hashes
from aneurysm.stage2.losses import Stage2Loss
from aneurysm.stage2.model import Stage2Net
from aneurysm.stage2.predict import max_baseline, predict_series
from aneurysm.stage2.tokens import check_tokens, header_modality, pad_batch
from aneurysm.training.checkpoint import load_trained
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit

N_FOR_SCALE = 512  # number of training series for the normalisation of the inputs, at most


@dataclass(frozen=True)
class HeldOut:
    """The held-out series, and the folder of their features from the stage 1 that held them out."""

    series: pd.DataFrame  # rows of train_{F}_folds.csv of one fold
    folder: Path
    prevalence: np.ndarray  # (14,) of the training series; prediction for series without features

    @classmethod
    def of_fold(cls, series: pd.DataFrame, model_paths: ModelPaths, fold: int | None) -> HeldOut:
        own, others = series[series.fold == fold].reset_index(drop=True), series[series.fold != fold]
        return cls(own, model_paths.features(fold), others[list(LABELS)].mean().to_numpy(float))

    @classmethod
    def all_of(cls, series: pd.DataFrame, model_paths: ModelPaths) -> HeldOut:
        """All series, for the models of fold None of another data set, whose checkpoint has the prevalence there.

        Raises ValueError if stage 2 was trained on any of them.
        """
        path = model_paths.stage2(None) / "last.pth"
        about = load_trained(path, "stage2")["config"]
        check_unseen(about, series.SeriesInstanceUID.tolist(), path)
        return cls(series, model_paths.features(None), np.array(about["prevalence"]))

    @property
    def truth(self) -> np.ndarray:
        """(series, 14) 0 or 1"""
        return self.series[list(LABELS)].to_numpy(int)

    @cached_property
    def has_features(self) -> np.ndarray:
        """(series,) bool; ValueError naming the folder if no series has features."""
        found = np.array([n_sampled_slices(self.path(row)) > 0 for row in self.series.itertuples()], bool)
        if len(found) and not found.any():
            raise ValueError(f"{self.folder}: expected features of {len(found)} series; has extract_features.py run?")
        return found

    def path(self, row: Any) -> Path:
        return self.folder / f"{row.SeriesInstanceUID}.safetensors"

    def predict(
        self, model: nn.Module, config: Stage2Config, world: DistContext, bar: str = "", by_header: bool = False
    ) -> np.ndarray:
        """(series, 14) probabilities; processes share the work, and each returns all of them.

        The model gets the modality of the table or, with `by_header`, that of a header without descriptions.
        """

        def predict(features: SeriesFeatures, row) -> np.ndarray:
            modality = header_modality(row.series_type) if by_header else row.series_type
            return predict_series(model, config, features, modality, row.plane)

        return self._predict_each(predict, world, bar)

    def max_baselines(
        self, tta: bool, world: DistContext, of: Literal["logits", "heatmap_max"] = "logits"
    ) -> np.ndarray:
        """(series, 14) baseline: max_baseline of each series."""
        return self._predict_each(lambda features, row: max_baseline(features, tta, of), world, "")

    def scores(self, predictions: np.ndarray) -> dict[str, float]:
        """history_scores of the series."""
        return history_scores(self.truth, predictions)

    def _predict_each(
        self, predict: Callable[[SeriesFeatures, Any], np.ndarray], world: DistContext, bar: str
    ) -> np.ndarray:
        rows = list(self.series.itertuples())[world.rank :: world.size]
        predictions = []
        for row in tqdm(rows, desc=bar, leave=False, disable=not (bar and world.is_main)):
            prediction = (
                predict(read_features(self.path(row)), row) if self.has_features[row.Index] else self.prevalence
            )
            predictions.append([row.Index, *prediction])
        table = world.gather(np.array(predictions).reshape(-1, 1 + len(LABELS)))
        return table[np.argsort(table[:, 0]), 1:]


def train_fold(
    series: pd.DataFrame,
    localizers: SliceLocalizers,
    model_paths: ModelPaths,
    config: Stage2Config,
    fold: int | None,
    world: DistContext,
    resume: bool,
) -> None:
    """Trains on all folds but `fold` (None: on all); writes what `fit` writes into the fold's stage2 folder.

    `series` are all rows of train_{F}_folds.csv; the labels of `fold` are used only for the scores in the history.
    Raises ValueError if settings contradict each other or features are missing.
    """
    check_tokens(config.tokens)
    torch.manual_seed(config.training.seed)
    table = TrainingTable.without_fold(series, model_paths, fold, config.tokens)
    train_set, held_out = TrainingSeries(table, config, localizers), HeldOut.of_fold(series, model_paths, fold)
    first = read_features(table.series.path[0])
    widths = {"n_features": first.features.shape[-1], "n_peak_features": first.peak_features.shape[-1]}
    prevalence = torch.from_numpy(table.prevalence)
    model = Stage2Net(config.net, config.tokens.inputs, **widths)
    step = -(-len(train_set) // N_FOR_SCALE)
    model.start_from((train_set.as_it_is(i) for i in range(0, len(train_set), step)), prevalence)
    if world.is_main:
        n_missing = int((~held_out.has_features).sum())
        print(f"fold {fold}: {table.text(config.tokens)}; held out {len(held_out.series)}, {n_missing} of them without")
    trained_on = " ".join(sorted(uid_hashes(train_set.uids)))
    about = {"stage2": asdict(config), "fold": fold, **widths, "trained_on": trained_on,
             "sampling": table.sampling, "prevalence": held_out.prevalence.tolist()}  # fmt: skip
    fit(
        model, train_set, Stage2Loss(config.loss, prevalence),
        lambda trained: held_out.scores(held_out.predict(trained, config, world)) if fold is not None else {},
        config.training, model_paths.stage2(fold), world, about, resume, pad_batch, model_dir=model_paths.root,
    )  # fmt: skip
