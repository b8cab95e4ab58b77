"""Trains and validates stage 1 on one fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from aneurysm.cache.cache import Cache
from aneurysm.folds.targets import localizers_by_series
from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.metrics import history_scores
from aneurysm.stage1.config import InputConfig, Stage1Config, Tta
from aneurysm.stage1.dataset import EvalWindows, TrainingWindows, label_windows, shown_spots
from aneurysm.stage1.endless import MixedWindows
from aneurysm.stage1.losses import Stage1Loss
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.predict import WindowPredictions, peaks_in_cache, predict_windows
from aneurysm.training.config import InferenceConfig
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit

COLUMNS = ["SeriesInstanceUID", "fold", "slice", "position_mm", "modality", "plane"]


@dataclass(frozen=True)
class HeldOut:
    """The spots of the held-out fold: `places` has one row per window, `truth` (windows, 14) their labels."""

    places: pd.DataFrame
    truth: np.ndarray

    @classmethod
    def from_spots(cls, spots: pd.DataFrame, config: Stage1Config) -> HeldOut:
        """One window per slice with a spot; positive spots outside the crop are dropped."""
        localizers, spots = localizers_by_series(spots), shown_spots(spots, config.input)
        places = spots[COLUMNS].drop_duplicates(["SeriesInstanceUID", "slice"]).reset_index(drop=True)
        return cls(places, label_windows(places, localizers, config.sampling.label_mm, config.input))

    def predict(
        self, model: nn.Module, cache: Cache, config: Stage1Config, world: DistContext, inference: InferenceConfig,
        bar: str = "", tta: Tta = "none",
    ) -> WindowPredictions:  # fmt: skip
        """Predictions for all windows; `tta` as in predict_windows."""
        return predict_windows(model, EvalWindows(cache, self.places, config.input), config, world, inference, bar, tta)

    def scores(self, predictions: WindowPredictions) -> dict[str, float]:
        """history_scores of the windows."""
        return history_scores(self.truth, predictions.probability)

    def table(self, predictions: WindowPredictions) -> pd.DataFrame:
        """`places` with the 14 probabilities of each window."""
        return self.places.join(pd.DataFrame(predictions.probability, columns=list(LABELS)))

    def peaks(self, predictions: WindowPredictions, spots: pd.DataFrame, config: InputConfig) -> pd.DataFrame:
        """The positive spots inside the crop, with peak_x, peak_y (pixels of the cache): the maximum of the heatmap of
        their location."""
        spots = shown_spots(spots, config)
        positives = spots[spots.kind == "positive"].reset_index(drop=True)
        number = self.places.reset_index().set_index(["SeriesInstanceUID", "slice"])["index"]
        rows = number[pd.MultiIndex.from_frame(positives[["SeriesInstanceUID", "slice"]])].to_numpy()
        xy = peaks_in_cache(predictions, self.places, config)[rows, positives.location.map(LOCATIONS.index)]
        return positives.assign(peak_x=xy[:, 0], peak_y=xy[:, 1])


def outside_text(spots: pd.DataFrame, config: InputConfig) -> str:
    """A sentence with the number of localizers outside the crop."""
    n_localizers = int((spots.kind == "positive").sum())
    n_outside = len(spots) - len(shown_spots(spots, config))
    return f"{n_outside} of {n_localizers} localizers lie outside the crop; their windows are left out"


def train_fold(
    cache: Cache,
    spots: pd.DataFrame,
    hard: Mapping[str, np.ndarray],
    config: Stage1Config,
    fold: int | None,
    weights: str,
    folder: Path,
    world: DistContext,
    resume: bool,
) -> None:
    """Trains on all folds but `fold` (None: on all); writes what `fit` writes into `folder`.

    `spots` are all rows of train_stage1_{F}_folds.csv, `weights` is the source of the encoder's weights (weights.py).
    """
    torch.manual_seed(config.training.seed)
    model = Stage1Net(config.encoder, config.heads, config.input.image_size, weights, config.input.n_slices)
    if config.heads.freeze_norms:
        model.fold_norms()
    windows = TrainingWindows(cache, spots[spots.fold != fold], hard, config)
    share = config.sampling.phantom_share
    train_set = MixedWindows(windows, config, share) if share else windows
    held_out = HeldOut.from_spots(spots[spots.fold == fold], config)
    if world.is_main:
        n_hard = sum(uid in hard for uid, _ in windows.negatives)
        print(f"{model.weights_text}; {len(train_set)} windows an epoch, {n_hard} series with hard negatives")
        print(outside_text(spots, config.input))

    inference = InferenceConfig(batch_size=config.training.batch_size, workers=config.training.workers)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        return held_out.scores(held_out.predict(trained, cache, config, world, inference)) if fold is not None else {}

    settings = cache.settings(spots.SeriesInstanceUID.unique())
    about = {"stage1": asdict(config), "fold": fold, "cache": settings and asdict(settings)}
    loss = Stage1Loss(config.loss, config.heads)
    fit(model, train_set, loss, evaluate, config.training, folder, world, about, resume)
