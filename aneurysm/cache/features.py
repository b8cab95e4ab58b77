"""What stage 1 says about the slices of one series: a file for stage 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from aneurysm.cache.config import VIEWS
from aneurysm.paths import atomic_write

FORMAT = 4  # of the files; 2 has `peak_features`, 3 `slice_spacing_mm`, 4 `heatmap_max`
CHANNELS = {"logits": 14, "heatmap_max": 14, "peak_x": 14, "peak_y": 14}


@dataclass(frozen=True)
class SeriesFeatures:
    """The sampled slices of one series, from the lowest up (axial), seen in one or more views.

    slice        (slices,) int32 index in the cache
    position_mm  (slices,) float32 along the slice axis, increasing
    depth_mm     (slices,) float32 millimetres from the series' last slice (axial: its uppermost), at least 0
    features     (views, slices, n_features) float16 pooled features of the encoder
    peak_features (views, slices, n_peak_features) float16 what stage 1's heads know of the highest pixel of its map of
                 aneurysms; the width is 0 without maps
    logits       (views, slices, 14) float16 in the order of LABELS
    heatmap_max  (views, slices, 14) float16 logit of the highest value of each label's map; NaN without maps
    peak_x       (views, slices, 14) float16 where it lies, as a share of the cached image from its left edge
    peak_y       (views, slices, 14) float16 the same from the top
    views        names of the views: original, mirror
    slice_spacing_mm     distance that the slices were sampled at, 0 for every slice; None where it is not told

    In the view `mirror`, left and right are exchanged: everything is said of the mirrored head, in its own labels.
    """

    slice: np.ndarray
    position_mm: np.ndarray
    depth_mm: np.ndarray
    features: np.ndarray
    peak_features: np.ndarray
    logits: np.ndarray
    heatmap_max: np.ndarray
    peak_x: np.ndarray
    peak_y: np.ndarray
    views: tuple[str, ...]
    slice_spacing_mm: float | None = None

    def __post_init__(self):
        n_views, n_slices = len(self.views), len(self.slice)
        if not n_views or not n_slices or any(view not in VIEWS for view in self.views):
            raise ValueError(f"expected slices in views of {', '.join(VIEWS)}, found {n_slices} in {self.views}")
        shapes = {"position_mm": (n_slices,), "depth_mm": (n_slices,)}
        shapes |= {name: (n_views, n_slices, n) for name, n in CHANNELS.items()}
        shapes |= {name: (n_views, n_slices, getattr(self, name).shape[-1]) for name in ("features", "peak_features")}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: expected {shape}, found {getattr(self, name).shape}")


def write_features(path: Path, features: SeriesFeatures, made_from: str) -> None:
    """Writes them, whole or not at all; `made_from` is a fingerprint that tells when they are out of date."""
    names = [field.name for field in fields(features) if field.name not in ("views", "slice_spacing_mm")]
    arrays = {name: np.ascontiguousarray(getattr(features, name)) for name in names}
    sampling = {"views": json.dumps(features.views), "slice_spacing_mm": json.dumps(features.slice_spacing_mm)}
    with atomic_write(path) as beside:
        # Not save_file: its error does not tell that a disk is full.
        beside.write_bytes(save(arrays, {**sampling, "made_from": made_from}))


def read_features(path: Path) -> SeriesFeatures:
    """A series' features; ValueError naming the file where it is missing or damaged."""
    with _opened(path) as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return SeriesFeatures(**arrays, **_sampling(file.metadata()))


def read_sampling(path: Path) -> dict[str, Any]:
    """`views` and `slice_spacing_mm` from the header of a features file; ValueError naming it where it has none."""
    with _opened(path) as file:
        return _sampling(file.metadata())


def made_from(path: Path) -> str | None:
    """The fingerprint of a features file; None where there is no such file, or none that can be read."""
    try:
        with _opened(path) as file:
            return file.metadata()["made_from"]
    except ValueError:
        return None


def n_sampled_slices(path: Path) -> int:
    """Number of slices in a features file, read from its header; 0 where there is no such file, or none to be read."""
    try:
        with _opened(path) as file:
            return file.get_slice("slice").get_shape()[0]
    except ValueError:
        return 0


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A features file of safetensors; whatever is missing from it or wrong with it is a ValueError that names it."""
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected the features of a series, from extract_features.py; {error}") from error


def _sampling(metadata: dict[str, str] | None) -> dict[str, Any]:
    """Raises TypeError or KeyError where there is none, ValueError where it is damaged."""
    views = tuple(json.loads(metadata["views"]))
    return {"views": views, "slice_spacing_mm": json.loads(metadata.get("slice_spacing_mm", "null"))}
