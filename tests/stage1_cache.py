"""A cache of a few small heads, written by hand, and the tables of spots and folds that belong to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.cache.cache import Cache, open_cache
from aneurysm.dicom.mapping import SIZE
from aneurysm.folds.spots import COLUMNS
from aneurysm.labels import LABELS

CACHED_MM = 0.4  # width and height of a cached pixel

# uid, fold, plane, kind of series, location, slice, x, y of its only aneurysm: `missing` is not in the cache.
HEADS = [
    ("s0", 0, "axial", "CTA", "Left Middle Cerebral Artery", 3, 300.0, 200.0),
    ("s1", 1, "axial", "MRA", "Right Middle Cerebral Artery", 12, 180.5, 210.25),
    ("s2", 0, "axial", "CTA", None, None, None, None),
    ("s3", 1, "axial", "MRA", None, None, None, None),
    ("s4", 0, "sagittal", "MRI T2", "Basilar Tip", 4, 240.0, 330.0),
    ("s5", 1, "sagittal", "MRI T2", "Basilar Tip", 11, 250.0, 300.0),
    ("missing", 1, "axial", "CTA", None, None, None, None),
]
N_SLICES, SLICE_MM = 16, 3.0
NEGATIVE_SLICES = {"s0": [11, 13, 15], "s1": [0, 2, 4], "s2": [1, 5, 9, 14], "s3": [3, 8], "s4": [12, 14], "s5": [1, 2]}


def write_series(
    data_dir: Path, uid: str, slices: np.ndarray, position_mm: np.ndarray, plane: str, vessels: np.ndarray | None = None
) -> None:
    """One series as preprocess_data.py leaves it; slices (n, 512, 512) in [0, 1], vessels the same shape, 0 to 13."""
    folder = data_dir / "npy_sequence"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{uid}.npy", slices.astype(np.float16))
    if vessels is not None:
        (data_dir / "npy_vessels").mkdir(exist_ok=True)
        np.save(data_dir / "npy_vessels" / f"{uid}.npy", vessels.astype(np.uint8))
    meta = {
        "SeriesInstanceUID": uid, "plane": plane, "n_slices": len(slices), "vessels": vessels is not None,
        "cached_row_mm": CACHED_MM, "cached_col_mm": CACHED_MM,
    }  # fmt: skip
    described = {"fingerprint": "by hand", "meta": meta, "position_mm": list(map(float, position_mm)), "mapping": {}}
    (folder / f"{uid}.json").write_text(json.dumps(described))


def one_series(data_dir: Path, slices: np.ndarray, position_mm: np.ndarray | None = None, **about) -> Cache:
    """A cache of one axial series, `s`, of slices 1 mm apart."""
    position_mm = np.arange(len(slices)) if position_mm is None else position_mm
    write_series(data_dir, "s", slices, position_mm, **{"plane": "axial"} | about)
    return open_cache(data_dir)


def dot(x: float, y: float, sigma: float) -> np.ndarray:
    """(512, 512) a round dot, 1 in its middle."""
    along = np.arange(SIZE)
    return np.outer(np.exp(-((along - y) ** 2) / (2 * sigma**2)), np.exp(-((along - x) ** 2) / (2 * sigma**2)))


def spot(uid: str, fold: int, index: int, position_mm: float, plane: str, modality: str = "CTA", **positive) -> dict:
    """A row of spots: positive where x, y and location are given."""
    where = {"x": np.nan, "y": np.nan, "location": None} | positive
    kind = "positive" if positive else "negative"
    return {"SeriesInstanceUID": uid, "fold": fold, "kind": kind, "slice": index, "position_mm": position_mm,
            "modality": modality, "plane": plane} | where  # fmt: skip


def make_spots(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def write_data(data_dir: Path) -> None:
    """The cache of HEADS and the tables that create_folds.py --folds 2 makes: aneurysms are balls in grainy tissue."""
    random = np.random.default_rng(0)
    spots, series = [], []
    for uid, fold, plane, modality, location, index, x, y in HEADS:
        n_slices = np.nan if uid == "missing" else N_SLICES
        about = {"SeriesInstanceUID": uid, "fold": fold, "series_type": modality, "plane": plane, "n_slices": n_slices}
        marked = {location, LABELS[-1]} if location else set()
        series.append(about | {label: int(label in marked) for label in LABELS})
        if uid == "missing":
            continue
        slices = 0.3 * random.random((N_SLICES, SIZE, SIZE), dtype=np.float32)
        position_mm = 100 + SLICE_MM * np.arange(N_SLICES)
        if location:
            slices[index] = np.maximum(slices[index], dot(x, y, 6))
            spots.append(spot(uid, fold, index, position_mm[index], plane, modality, x=x, y=y, location=location))
        spots += [spot(uid, fold, i, position_mm[i], plane, modality) for i in NEGATIVE_SLICES[uid]]
        write_series(data_dir, uid, slices, position_mm, plane)
    pd.DataFrame(series).to_csv(data_dir / "train_2_folds.csv", index=False)
    make_spots(spots).to_csv(data_dir / "train_stage1_2_folds.csv", index=False)
    pd.DataFrame(columns=["SeriesInstanceUID", "error"]).to_csv(data_dir / "localizer_errors.csv", index=False)
