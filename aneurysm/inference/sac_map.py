"""The aneurysm map of a whole series, from stage 1's maps of every window, as an overlay for viewers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aneurysm.cache.windows import Box, crop_box
from aneurysm.inference.models import Model
from aneurysm.inference.sampled import SampledSeries
from aneurysm.stage1.extract import Rows


@dataclass(frozen=True)
class SacMap:
    """Probability that a pixel belongs to an aneurysm, the mean over models and views.

    slice        (windows,) index in the cache, increasing
    probability  (windows, n, n) float32 in [0, 1], spread over the rows and columns of `box`
    """

    slice: np.ndarray
    probability: np.ndarray
    box: Box

    def rows_and_columns(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) and (n,) fractional rows and columns of the cache at the centres of the map's pixels."""
        rows, columns = self.probability.shape[1:]
        centres = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
        box = self.box
        return box.top + centres[0] * box.height - 0.5, box.left + centres[1] * box.width - 0.5


def sac_map(models: Sequence[Model], rows_of_models: Sequence[Sequence[Rows]], series: SampledSeries) -> SacMap | None:
    """The mean of the models' maps over all views; models whose maps differ from the first one's in input or size are
    left out. None if there are no maps."""
    with_maps = [
        (model.config1.input, rows["aneurysm_map"][:, 0].astype(np.float32))
        for model, views in zip(models, rows_of_models, strict=True)
        for rows in views
        if "aneurysm_map" in rows
    ]
    if not with_maps:
        return None
    first, shape = with_maps[0][0], with_maps[0][1].shape
    alike = [found for config, found in with_maps if config == first and found.shape == shape]
    return SacMap(series.index, np.mean(alike, axis=0), crop_box(first, series.geometry.plane))
