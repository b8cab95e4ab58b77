"""A few small DICOM series of each plane and with quirks, brought through every step to trained pairs of two folds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from pydicom.uid import RLELossless

from aneurysm.cache.cache import open_cache
from aneurysm.cache.config import CacheSettings
from aneurysm.cache.features import write_features
from aneurysm.cache.preprocess import preprocess_series
from aneurysm.cache.tables import write_tables
from aneurysm.folds.tables import labelled_series
from aneurysm.labels import LABELS
from aneurysm.paths import DataPaths, ModelPaths
from aneurysm.stage1.config import InputConfig, ModelConfig, Stage1Config
from aneurysm.stage1.extract import Encoder, extract
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage2.config import NetConfig, Stage2Config, TokensConfig
from aneurysm.stage2.dataset import SliceLocalizers
from aneurysm.stage2.training import train_fold
from aneurysm.training.checkpoint import save_checkpoint
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from tests.dicom_writer import CORONAL, SAGITTAL, write_enhanced, write_stack

CPU = torch.device("cpu")
ENCODER = "test_convnext"  # timm's smallest
EVERY_MM = 7.0
# Of a probability that was computed twice: features and logits are kept as float16, and may be rounded the other way
# (by 2**-11 of their value) where a processor adds up a convolution in another order. Folds and views differ by 0.01.
ROUNDED = 2e-4
SETTINGS = CacheSettings(head_mm=150.0, window_high_hu=500.0)  # neither is the default
STAGE1 = Stage1Config(
    ENCODER,
    InputConfig(image_size=64, neighbour_mm=5.0),
    ModelConfig(neck_width=16, drop_rate=0.0),
    training=TrainingConfig(precision="fp32"),
)
STAGE2 = Stage2Config(
    TokensConfig(inputs=("features", "logits", "heatmap_max", "peaks"), cross_fitted=False),
    net=NetConfig(width=16, depth=1, heads=2),
    training=TrainingConfig(epochs=2, batch_size=2, lr=1e-2, warmup_epochs=0, workers=0, precision="fp32"),
)
# Oblique, re-sliced, sagittal, multi-frame, a header that lies, a damaged image, nothing readable; folds 0, 1, 0, ...
SERIES = ("axial", "coronal", "sagittal", "enhanced", "lies", "hole", "broken", "empty")
BROKEN = ("broken", "empty")


def head(n_slices: int, seed: int, size: int = 64) -> np.ndarray:
    """(slices, size, size) int16 HU: a cylinder of lumpy tissue in noisy air, no two slices alike."""
    row, col = np.mgrid[:size, :size] - size / 2
    inside = np.hypot(row, 1.2 * col) < 0.4 * size
    rng = np.random.default_rng(seed)
    lumps = rng.normal(100, 150, (n_slices, 8, 8)).astype(np.float32)
    tissue = np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in lumps])
    return np.where(inside, tissue.clip(-150, 600), rng.normal(-1000, 10, tissue.shape)).astype(np.int16)


def write_all_series(folder: Path) -> None:
    """One folder for each of SERIES."""
    spacing, (cosine, sine) = (3.0, 3.0, 3.0), (np.cos(0.2), np.sin(0.2))
    write_stack(folder / "axial", head(60, 1), (cosine, sine, 0, -sine, cosine, 0), spacing, (-90, -80, 10),
                syntax=RLELossless)  # fmt: skip
    write_stack(folder / "coronal", head(40, 2), CORONAL, (1.8, 3.0, 3.0), (-90, -80, 90))
    write_stack(folder / "sagittal", head(24, 3), SAGITTAL, (5.0, 3.0, 3.0), (-60, -80, 90))
    write_enhanced(folder / "enhanced" / "e.dcm", head(30, 4) + np.int16(1000), spacing=(5.0, 3.0, 3.0))
    # Hounsfield units already, under a header that says that 1024 are to be taken away.
    write_stack(folder / "lies", head(40, 5), spacing=spacing, RescaleSlope=1, RescaleIntercept=-1024)
    write_stack(folder / "hole", head(40, 6), spacing=spacing, syntax=RLELossless)
    damaged = folder / "hole" / "880.dcm"  # slice 20
    damaged.write_bytes(damaged.read_bytes()[:-400])
    (folder / "broken").mkdir()
    (folder / "broken" / "a.dcm").write_bytes(b"no image" * 100)
    (folder / "empty").mkdir()


def make_data(data_dir: Path) -> pd.DataFrame:
    """DICOM files, train.csv, the cache, and train_2_folds.csv, which comes back."""
    paths, rng = DataPaths(data_dir), np.random.default_rng(0)
    write_all_series(paths.series)
    table = pd.DataFrame({"SeriesInstanceUID": SERIES})
    table["Modality"] = ["MRA" if uid == "enhanced" else "CTA" for uid in SERIES]
    table[list(LABELS)] = rng.integers(0, 2, (len(SERIES), len(LABELS)))
    table.to_csv(paths.train_csv, index=False)
    outcomes = [preprocess_series(data_dir, uid, SETTINGS, slices=False) for uid in SERIES]
    write_tables(paths, outcomes)
    series = labelled_series(paths).assign(fold=np.arange(len(SERIES)) % 2)
    series.to_csv(data_dir / "train_2_folds.csv", index=False)
    return series


def train_pairs(data_dir: Path, model_dir: Path, series: pd.DataFrame) -> None:
    """Pairs of both folds: an encoder of random weights that speaks up, and a stage 2 trained for a moment."""
    cache, paths = open_cache(data_dir), ModelPaths(model_dir, ENCODER)
    cached = [uid for uid in SERIES if uid not in BROKEN]
    for fold in range(2):
        torch.manual_seed(fold)
        model = Stage1Net(ENCODER, STAGE1.heads, STAGE1.input.image_size).eval()
        torch.nn.init.normal_(model.heatmap.aneurysm.weight, std=3.0)
        torch.nn.init.normal_(model.logits[-1].weight, std=1.0)
        about = {"stage1": asdict(STAGE1), "fold": fold, "cache": asdict(cache.settings(cached))}
        save_checkpoint(paths.stage1(fold), model, about, {}, 1)
        for uid, features in extract(cache, cached, Encoder(model, STAGE1, CPU), EVERY_MM, 16, 0):
            write_features(paths.features(fold) / f"{uid}.safetensors", features, "test")
        train_fold(series, SliceLocalizers({}, frozenset()), paths, STAGE2, fold, DistContext(0, 1, CPU), resume=False)
