"""Stage 1 over whole series: every slice asked, one table with what was said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import nn

from aneurysm.cache.cache import Cache
from aneurysm.cache.windows import crop_box, sampled_slices
from aneurysm.labels import LABELS, LOCATIONS
from aneurysm.stage1.config import InputConfig, Stage1Config, Tta
from aneurysm.stage1.dataset import EvalWindows
from aneurysm.stage1.predict import Answers, predict_windows
from aneurysm.training.config import InferenceConfig
from aneurysm.training.distributed import DistContext


def slice_places(cache: Cache, series_uids: Sequence[str], slice_spacing_mm: float) -> pd.DataFrame:
    """One row a slice: SeriesInstanceUID, slice, position_mm, plane, cached_col_mm and cached_row_mm."""
    parts = []
    for uid in series_uids:
        position_mm, meta = cache.position_mm(uid), cache.meta(uid)
        index = sampled_slices(position_mm, slice_spacing_mm)
        part = pd.DataFrame({"SeriesInstanceUID": uid, "slice": index, "position_mm": position_mm[index]})
        parts.append(part.assign(**{name: meta[name] for name in ("plane", "cached_col_mm", "cached_row_mm")}))
    return pd.concat(parts, ignore_index=True)


def predict_series_slices(
    model: nn.Module,
    cache: Cache,
    places: pd.DataFrame,
    config: Stage1Config,
    world: DistContext,
    inference: InferenceConfig,
    bar: str,
    tta: Tta = "none",
) -> pd.DataFrame:
    """`places` with the 14 probabilities of each slice, and `heat`, `peak_x`, `peak_y` of each label's map (cache
    pixels); `tta` as predict_windows.

    The columns of the latter are named `<label> heat` and so on; NaN where the model has no maps.
    """
    windows = EvalWindows(cache, places, config.input)
    answers = predict_windows(model, windows, config, world, inference, bar, tta)
    xy = peaks_in_cache(answers, places, config.input)
    columns = {name: answers.probability[:, i] for i, name in enumerate(LABELS)}
    for i, label in enumerate(LABELS):
        columns[f"{label} heat"] = answers.heat[:, i]
        columns[f"{label} peak_x"], columns[f"{label} peak_y"] = xy[:, i, 0], xy[:, i, 1]
    return places.join(pd.DataFrame(columns, index=places.index).astype(np.float32))


def peaks_in_cache(answers: Answers, places: pd.DataFrame, config: InputConfig) -> np.ndarray:
    """(windows, 14, 2) where the maps peak: x, y in pixels of the cache."""
    boxes = {plane: crop_box(config, plane) for plane in places.plane.unique()}
    return np.stack([boxes[plane].to_cache(xy) for plane, xy in zip(places.plane, answers.heat_xy, strict=True)])


def highest_heat(slices: pd.DataFrame) -> pd.DataFrame:
    """One row a series: the highest value of each label's map, columns as LABELS; a plain answer to the series."""
    highest = slices.groupby("SeriesInstanceUID")[[f"{label} heat" for label in LABELS]].max()
    return highest.set_axis(list(LABELS), axis=1)


def heat_candidates(slices: pd.DataFrame, labels: Sequence[str] = LOCATIONS) -> pd.DataFrame:
    """One row for each slice and label of predict_series_slices: probability (its map's highest), x, y, location."""
    kept = ["SeriesInstanceUID", "position_mm", "cached_col_mm", "cached_row_mm"]
    parts = [
        slices[kept].assign(
            probability=slices[f"{location} heat"], x=slices[f"{location} peak_x"], y=slices[f"{location} peak_y"],
            location=location,
        )
        for location in labels
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
