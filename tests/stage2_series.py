"""Made-up series as stage 1 might describe them, in the files and folders that stage 2 reads.

Each series has vessels at the heights of the 13 locations, half of the series aneurysms, and mimics: places that look
like an aneurysm without being one. Each fold's encoder sees all of them in its own way (an own projection to the
features, own noise), and sees the series that it was trained on too well: surer of aneurysms, less misled by mimics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.cache.features import SeriesFeatures, write_features
from aneurysm.folds.tables import SPOT_COLUMNS
from aneurysm.labels import LABELS, LOCATIONS, MIRROR, MODALITIES
from aneurysm.paths import ModelPaths
from aneurysm.stage2.config import JitterConfig, TokensConfig
from aneurysm.stage2.tokens import series_tokens

# Depth below the vertex in mm, and place in the image (x for a left-sided artery, y), of the 13 locations.
DEPTH_MM = np.array([112, 112, 100, 100, 95, 95, 93, 82, 82, 102, 102, 97, 116], float)
X = np.array([0.6, 0.4, 0.57, 0.43, 0.7, 0.3, 0.5, 0.53, 0.47, 0.56, 0.44, 0.5, 0.5])
Y = np.array([0.42, 0.42, 0.4, 0.4, 0.4, 0.4, 0.34, 0.32, 0.32, 0.47, 0.47, 0.5, 0.55])
SIZE_MM = 3.0  # an aneurysm's or a mimic's standard deviation along the slice axis
N_LATENT = 13 + 13 + 24  # aneurysms, mimics, all else that features tell

STILL = JitterConfig(mirror_p=0, thin_to_mm=0, drop_p=0, stretch=0, shift_mm=0,
                     feature_noise=0, logit_noise=0, unknown_p=0, header_modality_p=0)  # fmt: skip
NUMBERS = TokensConfig(cross_fitted=False)  # of the held-out fold's encoder, without its features
ALL_INPUTS = TokensConfig(inputs=("features", "peak_features", "logits", "heatmap_max", "peaks"), cross_fitted=False)
PARTS = {"features": 6, "peak_features": 5, "logits": 14, "heatmap_max": 14, "peak_x": 14, "peak_y": 14}


@dataclass(frozen=True)
class Look:
    """How well stage 1 sees: heights of bumps in logits."""

    aneurysm: float = 2.2
    aneurysm_sd: float = 1.2
    mimics: float = 1.2  # per series
    mimic: float = 1.8
    noise: float = 0.7  # of each slice
    series_noise: float = 0.7  # of the whole series, and of its modality
    overfit: float = 1.5  # how much higher aneurysms, and lower mimics, are where the encoder was trained


@dataclass
class Person:
    """What is in a series: truth, and what misleads."""

    depth_mm: np.ndarray
    modality: str
    plane: str
    aneurysms: np.ndarray  # (13,) height in logits; 0 where there is none
    mimics: np.ndarray  # (13,)
    vessel_mm: np.ndarray  # (13,) depth of each location in this head
    mimic_mm: np.ndarray
    nuisance: np.ndarray = field(repr=False)  # (slices, 24)

    @property
    def position_mm(self) -> np.ndarray:
        return (self.depth_mm[0] - self.depth_mm - 90).astype(np.float32)

    @property
    def labels(self) -> np.ndarray:
        locations = (self.aneurysms > 0).astype(int)
        return np.append(locations, locations.max())


def draw_person(rng: np.random.Generator, positive: bool, location: int, look: Look) -> Person:
    n_slices = int(rng.integers(60, 131))
    spacing_mm = rng.uniform(150, 180) / n_slices
    depth_mm = (np.arange(n_slices)[::-1] * spacing_mm).astype(np.float32)
    vessel_mm = DEPTH_MM * rng.normal(1, 0.05) + rng.normal(0, 3, 13)
    aneurysms, mimics = np.zeros(13), np.zeros(13)
    if positive:
        places = {location, *rng.choice(13, rng.choice([0, 1, 2], p=[0.87, 0.11, 0.02]))}
        aneurysms[list(places)] = np.maximum(0.2, rng.normal(look.aneurysm, look.aneurysm_sd, len(places)))
    for _ in range(rng.poisson(look.mimics)):
        mimics[rng.integers(13)] = max(0.0, rng.normal(look.mimic, 1.0))
    nuisance = np.cumsum(rng.normal(0, 0.4, (n_slices, 24)), axis=0) + rng.normal(0, 1, 24)
    modality = rng.choice(MODALITIES, p=[0.42, 0.29, 0.22, 0.07])
    plane = rng.choice(["axial", "sagittal", "coronal"], p=[0.96, 0.02, 0.02])
    mimic_mm = vessel_mm + rng.normal(0, 8, 13)
    return Person(depth_mm, str(modality), str(plane), aneurysms, mimics, vessel_mm, mimic_mm, nuisance)


class Encoder:
    """One fold's stage 1."""

    def __init__(self, fold: int, look: Look, n_features: int):
        rng = np.random.default_rng([7, fold])
        self.fold, self.look = fold, look
        self.projection = rng.normal(0, 1, (N_LATENT, n_features)) / np.sqrt(N_LATENT)
        self.modality_shift = dict(zip(MODALITIES, rng.normal(0, 1, 4), strict=True))
        self.confusion = 0.35 * np.exp(-np.abs(DEPTH_MM[:, None] - DEPTH_MM[None]) / 8)
        np.fill_diagonal(self.confusion, 1.0)  # a neighbouring or mirrored location answers too

    def describe(self, person: Person, seen: bool, rng: np.random.Generator) -> SeriesFeatures:
        views = [self._view(person, seen, rng, mirrored) for mirrored in (False, True)]
        arrays = {name: np.stack([view[name] for view in views]).astype(np.float16) for name in views[0]}
        n_slices = len(person.depth_mm)
        index = np.arange(n_slices, dtype=np.int32)
        return SeriesFeatures(index, person.position_mm, person.depth_mm, views=("original", "mirror"), **arrays)

    def _view(self, person: Person, seen: bool, rng: np.random.Generator, mirrored: bool) -> dict[str, np.ndarray]:
        look, order = self.look, list(MIRROR[:13]) if mirrored else list(range(13))
        gain = look.overfit if seen else 1.0
        aneurysm = gain * person.aneurysms * bump(person.depth_mm, person.vessel_mm)
        mimic = person.mimics / gain**2 * bump(person.depth_mm, person.mimic_mm)
        aneurysm, mimic = aneurysm[:, order], mimic[:, order]
        n_slices = len(aneurysm)
        latent = np.hstack([aneurysm, 1.5 * mimic, person.nuisance])
        features = np.tanh(latent @ self.projection) + rng.normal(0, 0.3, (n_slices, self.projection.shape[1]))
        shift = self.modality_shift[person.modality] * look.series_noise / gain
        level = -4 + shift + rng.normal(0, look.series_noise / gain)
        seen_bumps = (aneurysm + mimic) @ self.confusion
        logits = level + seen_bumps + rng.normal(0, look.noise / gain, (n_slices, 13))
        present = level + 1.5 + seen_bumps.max(axis=1) + rng.normal(0, look.noise / gain, n_slices)
        heatmap = -3 + aneurysm + 0.7 * mimic + rng.normal(0, 1.2 / gain, (n_slices, 13))
        sure = 1 / (1 + np.exp(-(aneurysm + mimic - 1)))
        peak_x = X + rng.normal(0, 0.1, (n_slices, 13)) * (1 - sure)
        peak_y = Y + rng.normal(0, 0.1, (n_slices, 13)) * (1 - sure)
        hottest = heatmap.argmax(axis=1)[:, None]  # what holds for all aneurysms is that of the surest location
        maps = {"heatmap_max": heatmap, "peak_x": peak_x, "peak_y": peak_y}
        maps = {name: np.hstack([own, np.take_along_axis(own, hottest, 1)]) for name, own in maps.items()}
        return {
            "features": features,
            "peak_features": features[:, :5],
            "logits": np.column_stack([logits, present]),
            **maps,
        }


def spots_of(people: Sequence[Person], table: pd.DataFrame) -> pd.DataFrame:
    """One row an aneurysm, as create_folds.py writes them."""
    rows = []
    for row, person in zip(table.itertuples(), people, strict=True):
        for i in np.flatnonzero(person.aneurysms):
            index = int(np.abs(person.depth_mm - person.vessel_mm[i]).argmin())
            rows.append([row.SeriesInstanceUID, row.fold, "positive", index, person.position_mm[index],
                         512 * X[i], 512 * Y[i], LOCATIONS[i], person.modality, person.plane])  # fmt: skip
    return pd.DataFrame(rows, columns=SPOT_COLUMNS)


def bump(depth_mm: np.ndarray, centre_mm: np.ndarray) -> np.ndarray:
    """(slices, locations) in [0, 1]"""
    return np.exp(-((depth_mm[:, None] - centre_mm) ** 2) / (2 * SIZE_MM**2))


def make_series(
    root: Path,
    n_series: int = 240,
    n_features: int = 1280,
    folds: int = 5,
    encoders: tuple[str, ...] = ("one",),
    look: Look | None = None,
    seed: int = 0,
    own_fold: bool = False,
) -> pd.DataFrame:
    """Writes root/data/train_{folds}_folds.csv and root/model/<encoder>/fold-<k>/features/; returns the table.

    `own_fold` leaves out what a fold's encoder says about the series that it was trained on.
    """
    look, rng = look or Look(), np.random.default_rng(seed)
    people = [draw_person(rng, i % 2 == 0, (i // 2) % 13, look) for i in range(n_series)]
    table = pd.DataFrame(
        [
            {
                "SeriesInstanceUID": f"1.2.{i:04d}",
                "series_type": person.modality,
                "plane": person.plane,
                "n_slices": len(person.depth_mm),
                "fold": (i // 2) % folds,
                **dict(zip(LABELS, person.labels, strict=True)),
            }
            for i, person in enumerate(people)
        ]
    )
    (root / "data").mkdir(parents=True, exist_ok=True)
    table.to_csv(root / "data" / f"train_{folds}_folds.csv", index=False)
    spots_of(people, table).to_csv(root / "data" / f"train_stage1_{folds}_folds.csv", index=False)
    pd.DataFrame(columns=["SeriesInstanceUID"]).to_csv(root / "data" / "localizer_errors.csv", index=False)
    for number, name in enumerate(encoders):
        for fold in range(folds):
            encoder = Encoder(fold + 100 * number, look, n_features)
            folder = ModelPaths(root / "model", name).features(fold)
            for i, person in enumerate(people):
                seen = table.fold[i] != fold
                if not (seen and own_fold):
                    own = np.random.default_rng([seed, number, fold, i])
                    path = folder / f"{table.SeriesInstanceUID[i]}.safetensors"
                    write_features(path, encoder.describe(person, seen, own), "made up")
    return table


def features_of(logits: np.ndarray, features: np.ndarray | None = None) -> SeriesFeatures:
    """logits (views, slices, 14)"""
    n_views, n_slices = logits.shape[:2]
    output = {name: np.zeros((n_views, n_slices, 14), np.float16) for name in ("heatmap_max", "peak_x", "peak_y")}
    features = np.zeros((n_views, n_slices, 4), np.float16) if features is None else features
    index = np.arange(n_slices, dtype=np.int32)
    depth_mm = (2.0 * index[::-1]).astype(np.float32)
    views = ("original", "mirror")[:n_views]
    at_peak, logits = np.zeros((n_views, n_slices, 3), np.float16), logits.astype(np.float16)
    return SeriesFeatures(index, depth_mm[::-1], depth_mm, features, at_peak, logits, **output, views=views)


def described(value: float, n_slices: int = 8, views: tuple[str, ...] = ("original", "mirror")) -> SeriesFeatures:
    """Slices 2 mm apart, the last one 1 mm from the series' end; all that is said is `value`, mirrored 0.5 more."""
    index = np.arange(n_slices, dtype=np.int32)
    arrays = {name: np.full((2, n_slices, n), value, np.float16) for name, n in PARTS.items()}
    for array in arrays.values():
        array[1] += 0.5
    depth_mm = (1 + 2 * index[::-1]).astype(np.float32)
    arrays = {name: array[: len(views)] for name, array in arrays.items()}
    return SeriesFeatures(index, 2.0 * index.astype(np.float32), depth_mm, views=views, **arrays)


def tokens_of(features: SeriesFeatures, view: str = "original", plane: str | None = "axial", config=NUMBERS) -> dict:
    return series_tokens(features, view, "MRA", plane, config)
