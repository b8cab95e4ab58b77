"""Made-up volumes, manifest and folds, in the files that the second system is trained from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.folds.manifest import Entry, write_manifest
from aneurysm.labels import LABELS
from volume3d.volume import volume_path

SHAPE = (12, 40, 40)  # slices, rows, columns
Z_MM = 3.0


def write_volume(data_dir: Path, uid: str, volume: np.ndarray, z_mm: float = Z_MM) -> None:
    path = volume_path(data_dir, uid)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, volume)
    about = {"SeriesInstanceUID": uid, "shape": list(volume.shape), "spacing_mm": [z_mm, 1.5, 1.5]}
    path.with_name(f"{uid}.json").write_text(json.dumps(about))


def entry(uid: str, labels: np.ndarray, age: float | None = 60.0, sex: str | None = "F") -> Entry:
    modality = ("CTA", "MRA")[int(uid[-1]) % 2]
    return Entry(uid, modality[:2], modality, uid, age, sex, None, f"series/{uid}", None, labels.astype(np.float32))


def make_volumes(data_dir: Path, n_series: int = 8, folds: int = 2, seed: int = 0) -> pd.DataFrame:
    """Noise; in every second series, with an aneurysm, a bright ball on one side. Returns train_{folds}_folds.csv."""
    rng = np.random.default_rng(seed)
    rows, entries = [], []
    z, y, x = np.indices(SHAPE)
    for i in range(n_series):
        uid, labels = f"1.2.{i}", np.zeros(14)
        volume = rng.uniform(0, 0.4, SHAPE)
        if i % 2:
            left = i % 4 == 1
            labels[[4 if left else 5, 13]] = 1
            column = (26 if left else 13) + rng.integers(-2, 3)
            volume[(z - 6) ** 2 * 4 + (y - 20) ** 2 + (x - column) ** 2 < 20] = 0.95
        write_volume(data_dir, uid, volume.astype(np.float16))
        entries.append(entry(uid, labels, age=40.0 + i if i else None))
        about = {"SeriesInstanceUID": uid, "fold": i // 2 % folds, "n_slices": 12, "series_type": entries[-1].subtype}
        rows.append(about | {"plane": "axial"} | dict(zip(LABELS, labels.astype(int), strict=True)))
    write_manifest(data_dir / "manifest.jsonl", entries)
    table = pd.DataFrame(rows)
    table.to_csv(data_dir / f"train_{folds}_folds.csv", index=False)
    return table
