"""A contact sheet of the cache: a row for each kind of series, slices with the localizer circled, and a slab MIP."""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pandas as pd

from aneurysm.data.cache import Cache, open_cache
from aneurysm.data.localizers import place_localizers, read_localizers
from aneurysm.data.mapping import SIZE
from aneurysm.labels import MODALITIES

N_SLICES = 4  # slices of one series in a row; the projection follows
SLAB_MM = 30.0  # thickness of the slab that is projected
BONE = 0.9  # of the CT window, 540 HU: denser than contrast in vessels


def contact_sheet(data_dir: Path, out: Path) -> None:
    """Draws the PNG `out`: for each kind of series the first axial one that has a localizer, else any.

    The patient's right is at the left of axial and coronal images, as radiologists view them.
    """
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cache = open_cache(data_dir)
    localizers, _ = place_localizers(cache, read_localizers(cache.paths.localizers_csv))
    meta = _one_of_each(pd.read_csv(cache.paths.train_meta_csv), localizers)
    figure, axes = plt.subplots(len(meta), N_SLICES + 1, figsize=(2.4 * (N_SLICES + 1), 2.7 * len(meta)), squeeze=False)
    for row, series in zip(axes, meta.itertuples(), strict=True):
        _draw_series(row, cache, series, localizers[localizers.SeriesInstanceUID == series.SeriesInstanceUID])
    figure.tight_layout(pad=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100, facecolor="black")
    plt.close(figure)


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


def _draw_series(axes: np.ndarray, cache: Cache, series, localizers: pd.DataFrame) -> None:
    n_slices = series.n_slices
    centre = round(localizers.slice.iloc[0]) if len(localizers) else n_slices // 2
    spread = (np.linspace(0.12, 0.88, N_SLICES - 1) * n_slices).astype(int)
    for axis, index in zip(axes, [centre, *spread], strict=False):
        axis.imshow(cache.window(series.SeriesInstanceUID, [index])[0].astype(np.float32), cmap="gray", vmin=0, vmax=1)
        _circle(axis, localizers[(localizers.slice - index).abs() < 1])
        _title(axis, f"slice {index + 1} of {n_slices}")
    what = f"{series.series_type}, {series.plane}, slice {centre + 1} of {n_slices}"
    _title(axes[0], "\n".join([what, *localizers.location.iloc[:1]]))
    image, how = _projection(cache, series, centre)
    axes[-1].imshow(image, cmap="gray", vmin=0, vmax=1)
    _circle(axes[-1], localizers)
    _title(axes[-1], f"{how} over {SLAB_MM:g} mm")


def _projection(cache: Cache, series, centre: int) -> tuple[np.ndarray, str]:
    """Maximum over the slab around a slice, in CT without bone; in T2, where flowing blood is black, the minimum."""
    position_mm = cache.position_mm(series.SeriesInstanceUID)
    slab = np.flatnonzero(np.abs(position_mm - position_mm[centre]) <= SLAB_MM / 2)
    window = cache.window(series.SeriesInstanceUID, slab).astype(np.float32)
    if series.series_type == "MRI T2":
        return window.min(0), "minimum"
    if series.modality == "CT":
        return np.max([_without_bone(image) for image in window], axis=0), "maximum without bone"
    return window.max(0), "maximum"


def _without_bone(image: np.ndarray) -> np.ndarray:
    """A CT slice with what is denser than vessels, and the rim around it, set to 0."""
    bone = cv2.morphologyEx((image > BONE).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.where(cv2.dilate(bone, np.ones((13, 13), np.uint8)) > 0, 0, image)


def _circle(axis, localizers: pd.DataFrame) -> None:
    for x, y in zip(localizers.cache_x, localizers.cache_y, strict=True):
        axis.add_patch(matplotlib.patches.Circle((x, y), SIZE / 24, fill=False, color="orange", lw=1.2))


def _title(axis, text: str) -> None:
    axis.set_title(text, color="white", fontsize=8, pad=3)
    axis.set_xticks([])
    axis.set_yticks([])
