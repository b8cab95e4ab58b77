"""Evaluates the second system on held-out series, in the first system's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.config import from_saved
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths, trained_folds
from aneurysm.scores import score_text, series_subgroups
from aneurysm.training.distributed import DistContext
from volume3d.cases import Cases
from volume3d.config import VolumeSettings
from volume3d.inference import load_volume3d
from volume3d.training import HeldOut
from volume3d.volume import read_settings


@dataclass(frozen=True)
class Evaluation:
    """Predictions for held-out series."""

    cases: Cases
    predictions: np.ndarray  # (series, 14) probabilities
    title: str

    @property
    def counted(self) -> str:
        """How many series there are, and how many of them have no volume, as text."""
        n_missing = int((~self.cases.table.has_volume).sum())
        return f"{len(self.cases)} series, {n_missing} without a volume, answered with the training prevalences"

    def text(self) -> str:
        """The tables of AUCs, for all series and by modality, plane, sex and age, where these are known."""
        subgroups = series_subgroups(self.cases.table)
        if subgroups.plane.isna().all():  # the manifest does not contain it
            subgroups = subgroups.drop(columns="plane")
        head = f"volume3d, held-out series of {self.title}; {self.counted}"
        return f"{head}\n{score_text(self.cases.labels.astype(int), self.predictions, subgroups)}"

    def table(self) -> pd.DataFrame:
        """SeriesInstanceUID, fold (or part of the split) and the 14 probabilities."""
        uids = self.cases.table[["SeriesInstanceUID", "part"]].rename(columns={"part": "fold"})
        return uids.join(pd.DataFrame(self.predictions, columns=list(LABELS)))


def evaluate_folds(cases: Cases, model_paths: ModelPaths, folds: Sequence[int], world: DistContext) -> Evaluation:
    """The predictions of each fold's model for its held-out series; of `folds`, those that are trained.

    Raises ValueError if none is, or if a model has seen the series.
    """
    trained = trained_folds([model_paths], folds, "volume3d.train")
    parts = [
        _evaluate(cases.of(fold), cases.without(fold), model_paths.fold(fold), fold, f"fold {fold}", world)
        for fold in trained
    ]
    table = pd.concat([part.cases.table for part in parts], ignore_index=True)
    title = f"fold {', '.join(str(fold) for fold in trained)}"
    return Evaluation(Cases(cases.data_dir, table), np.concatenate([part.predictions for part in parts]), title)


def evaluate_split(cases: Cases, model_paths: ModelPaths, part: str, checksum: str, world: DistContext) -> Evaluation:
    """The predictions of a split's model for one part of it; ValueError if it was trained on another split."""
    return _evaluate(cases.of(part), cases.of("train"), model_paths.volume3d_split, checksum, part, world)


def evaluate_weights(cases: Cases, path: Path, world: DistContext) -> Evaluation:
    """The predictions of pretrained weights for all series, none of which they have seen.

    Raises ValueError if the volumes and those of the pretraining were made with different settings.
    """
    trained = load_volume3d(path, world.device, None)
    made = read_settings(cases.data_dir, cases.with_volume().table.SeriesInstanceUID)
    expected = asdict(trained.volumes)
    if made is not None and from_saved(VolumeSettings, made) != trained.volumes:
        differing = ", ".join(f"{k} {v} instead of {expected[k]}" for k, v in made.items() if v != expected[k])
        raise ValueError(f"{path}: expected volumes as it was trained on, found them made with {differing}")
    unseen = HeldOut.of(cases, cases)
    return Evaluation(unseen.cases, unseen.predict(trained.model, trained.config, world, path.stem), str(path))


def _evaluate(
    held_out: Cases, training: Cases, folder: Path, named: int | str, title: str, world: DistContext
) -> Evaluation:
    trained = load_volume3d(folder / "last.pth", world.device, named)
    unseen = HeldOut.of(held_out, training)
    return Evaluation(unseen.cases, unseen.predict(trained.model, trained.config, world, title), title)
