"""A contact sheet of the cache: a row for each kind of series, slices with the localizer circled, and a slab MIP."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib.patches import Circle

from aneurysm.cache.cache import Cache, open_cache
from aneurysm.dicom.mapping import SIZE
from aneurysm.folds.localizers import place_localizers, read_localizers
from aneurysm.labels import MODALITIES
from aneurysm.report.drawing import ON_SLICE, ORANGE, QUIET, Sheet
from aneurysm.tables import FROM_PREPROCESSING, read_table

N_SLICES = 4  # slices of one series in a row; the projection follows
SLAB_MM = 30.0  # thickness of the slab that is projected
ROW_IN, MARGIN_IN, GAP_IN = 2.6, 0.15, 0.06  # height of a row, margin, gap between pictures
BONE = 0.9  # of the CT window, 540 HU: denser than contrast in vessels


def contact_sheet(data_dir: Path, out: Path, cache_dir: Path | None = None) -> None:
    """Draws the PNG `out`: for each kind of series the first axial one with a localizer, else any.

    The patient's right is at the left of axial and coronal images, as radiologists view them.
    """
    cache = open_cache(data_dir, cache_dir)
    localizers, _ = place_localizers(cache, read_localizers(cache.paths.localizers_csv))
    meta = _one_of_each(
        read_table(cache.paths.train_meta_csv, ["SeriesInstanceUID", "series_type", "plane"], FROM_PREPROCESSING),
        localizers,
    )
    sheet = Sheet(ROW_IN * len(meta))
    for number, series in enumerate(meta.itertuples()):
        own = localizers[localizers.SeriesInstanceUID == series.SeriesInstanceUID]
        _draw_series(sheet, ROW_IN * number, cache, series, own)
    sheet.save(out)


def _one_of_each(meta: pd.DataFrame, localizers: pd.DataFrame) -> pd.DataFrame:
    """One row of train_meta.csv for each series_type, in the competition's order."""
    marked = meta.SeriesInstanceUID.isin(localizers.SeriesInstanceUID)
    best_first = meta.assign(rank=2 * marked + (meta.plane == "axial")).sort_values(
        "rank", ascending=False, kind="stable"
    )
    shown = best_first.drop_duplicates("series_type").set_index("series_type", drop=False)
    return shown.loc[
        [kind for kind in [*MODALITIES, *sorted(set(shown.index) - set(MODALITIES))] if kind in shown.index]
    ]


def _draw_series(sheet: Sheet, y: float, cache: Cache, series, localizers: pd.DataFrame) -> None:
    n_slices = series.n_slices
    centre = round(localizers.slice.iloc[0]) if len(localizers) else n_slices // 2
    spread = (np.linspace(0.12, 0.88, N_SLICES - 1) * n_slices).astype(int)
    where = f", {localizers.location.iloc[0]}" if len(localizers) else ""
    sheet.title(MARGIN_IN, y + 0.25, f"{series.series_type}, {series.plane}{where}")
    side = (sheet.size_in[0] - 2 * MARGIN_IN - N_SLICES * GAP_IN) / (N_SLICES + 1)
    for number, index in enumerate([centre, *spread]):
        image = cache.window(series.SeriesInstanceUID, [index])[0].astype(np.float32)
        words = f"slice {index + 1} of {n_slices}"
        _draw(sheet, number, y, side, image, words, localizers[(localizers.slice - index).abs() < 1])
    image, how = _projection(cache, series, centre)
    _draw(sheet, N_SLICES, y, side, image, how, localizers)


def _draw(
    sheet: Sheet, number: int, y: float, side: float, image: np.ndarray, words: str, localizers: pd.DataFrame
) -> None:
    """One picture of a row, with words below it and its localizers circled."""
    x = MARGIN_IN + number * (side + GAP_IN)
    axes = sheet.picture(x, y + 0.36, side, side, image)
    for point in localizers[["cache_x", "cache_y"]].to_numpy(float):
        axes.add_patch(Circle(point, SIZE / 24, fill=False, color=ON_SLICE[ORANGE], lw=1.4))
    sheet.text(x, y + 0.41 + side, words, QUIET)


def _projection(cache: Cache, series, centre: int) -> tuple[np.ndarray, str]:
    """Maximum over the slab around a slice, in CT without bone; in T2, where flowing blood is black, the minimum."""
    position_mm = cache.position_mm(series.SeriesInstanceUID)
    slab = np.flatnonzero(np.abs(position_mm - position_mm[centre]) <= SLAB_MM / 2)
    window = cache.window(series.SeriesInstanceUID, slab).astype(np.float32)
    if series.series_type == "MRI T2":
        return window.min(0), f"minimum, {SLAB_MM:g} mm"
    if series.modality == "CT":
        return np.max([_without_bone(image) for image in window], axis=0), f"maximum less bone, {SLAB_MM:g} mm"
    return window.max(0), f"maximum, {SLAB_MM:g} mm"


def _without_bone(image: np.ndarray) -> np.ndarray:
    """A CT slice with bone (denser than vessels) and a rim around it set to 0."""
    bone = cv2.morphologyEx((image > BONE).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.where(cv2.dilate(bone, np.ones((13, 13), np.uint8)) > 0, 0, image)
