"""Features files: the output of stage 1 for the slices of one series, input of stage 2."""

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

FORMAT = 4  # version of the files; 2 added `peak_features`, 3 `slice_spacing_mm`, 4 `heatmap_max`
CHANNELS = {"logits": 14, "heatmap_max": 14, "peak_x": 14, "peak_y": 14}


@dataclass(frozen=True)
class SeriesFeatures:
    """The sampled slices of one series, from the lowest up (axial), in one or more views.

    slice             (slices,) int32 index in the cache
    position_mm       (slices,) float32 along the slice axis, increasing
    depth_mm          (slices,) float32 millimetres from the series' last slice (axial: its uppermost), at least 0
    features          (views, slices, n_features) float16 pooled features of the encoder
    peak_features     (views, slices, n_peak_features) float16 features of stage 1's heads at the maximum of its
                      aneurysm map; the width is 0 without maps
    logits            (views, slices, 14) float16 in the order of LABELS
    heatmap_max       (views, slices, 14) float16 logit of the maximum of each label's map; NaN without maps
    peak_x            (views, slices, 14) float16 x of that maximum, as a fraction of the cached image from the left
    peak_y            (views, slices, 14) float16 y of that maximum, as a fraction from the top
    views             names of the views: original, mirror
    slice_spacing_mm  distance between sampled slices, 0 for every slice; None if unknown

    In the view `mirror` left and right are swapped, in the labels as well: all values describe the mirrored head.
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
    """Writes features atomically; `made_from` is a fingerprint that shows when they are out of date."""
    names = [field.name for field in fields(features) if field.name not in ("views", "slice_spacing_mm")]
    arrays = {name: np.ascontiguousarray(getattr(features, name)) for name in names}
    sampling = {"views": json.dumps(features.views), "slice_spacing_mm": json.dumps(features.slice_spacing_mm)}
    with atomic_write(path) as beside:
        # Not save_file: its error does not reveal a full disk.
        beside.write_bytes(save(arrays, {**sampling, "made_from": made_from}))


def read_features(path: Path) -> SeriesFeatures:
    """The features of a series; ValueError naming the file if it is missing or damaged."""
    with _opened(path) as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return SeriesFeatures(**arrays, **_sampling(file.metadata()))


def read_sampling(path: Path) -> dict[str, Any]:
    """`views` and `slice_spacing_mm` from the header of a features file; ValueError naming the file if it has none."""
    with _opened(path) as file:
        return _sampling(file.metadata())


def made_from(path: Path) -> str | None:
    """The fingerprint of a features file; None if the file is missing or unreadable."""
    try:
        with _opened(path) as file:
            return file.metadata()["made_from"]
    except ValueError:
        return None


def n_sampled_slices(path: Path) -> int:
    """Number of slices in a features file, from its header; 0 if the file is missing or unreadable."""
    try:
        with _opened(path) as file:
            return file.get_slice("slice").get_shape()[0]
    except ValueError:
        return 0


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a features file (safetensors); turns every error of the block into a ValueError that names the file."""
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected the features of a series, from extract_features.py; {error}") from error


def _sampling(metadata: dict[str, str] | None) -> dict[str, Any]:
    """Raises TypeError or KeyError if the values are missing, ValueError if they are damaged."""
    views = tuple(json.loads(metadata["views"]))
    return {"views": views, "slice_spacing_mm": json.loads(metadata.get("slice_spacing_mm", "null"))}
