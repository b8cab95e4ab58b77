"""False positives of stage 1 on heads that are known to have no aneurysm, with pictures of the highest peaks.

    mkdir -p data/real/series && cp -r healthy/scan1 healthy/scan2 data/real/series
    python preprocess_data.py --data_dir data/real
    PYTHONPATH=. python benchmarks/false_alarms.py --real_dir data/real --phantom_dir data/fresh --plot alarms.png

At the threshold, a fraction `--found` of the phantoms' localizers have a peak of the map near them. The network must
not have seen the phantoms or the real heads. Peaks within 10 mm of a higher one do not count. Prints the number of
peaks at or above the threshold for each real series, and per series for the phantoms without an aneurysm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from torch import nn

from aneurysm.cache.cache import Cache
from aneurysm.config import run_script, subset
from aneurysm.labels import PRESENT
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.evaluate import with_pixel_mm
from aneurysm.stage1.fresh import FreshSeries, own_peaks
from aneurysm.stage1.localisation import points_mm, suppress
from aneurysm.stage1.predict import heatmap_candidates, load_stage1, predict_series_slices, slice_places
from aneurysm.stage1.weights import weights_path
from aneurysm.training.config import InferenceConfig
from aneurysm.training.distributed import DistContext, end_distributed, init_distributed

matplotlib.use("Agg")
from matplotlib import pyplot as plt

APART_MM = 10.0
SHOWN_PX, COLUMNS = 48, 6  # cache pixels shown on each side of a peak; pictures per row


@dataclass(frozen=True)
class FalseAlarmsConfig(InferenceConfig):
    real_dir: Path = Path("data/real")
    """folder that preprocess_data.py has filled: heads without an aneurysm"""
    phantom_dir: Path = Path("data/fresh")
    """folder that create_folds.py has filled"""
    folds: int = 2
    """number of folds, as given to create_folds.py"""
    weights: str = "pretrained"
    """pretrained (the included weights), or a file of pretrain.py or train_stage1.py"""
    encoder: str = "tf_efficientnet_lite0"
    """encoder of the included weights"""
    found: float = 0.75
    """share of the phantoms' localizers that the threshold finds"""
    slice_spacing_mm: float = 3.0
    """distance between the slices that are evaluated"""
    pictures: int = 24
    """peaks of real heads in the picture, the highest first"""
    plot: Path | None = None
    """a picture (PNG)"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: FalseAlarmsConfig) -> None:
    world, inference = init_distributed(config.device), subset(InferenceConfig, config)
    model, stage1 = load_stage1(weights_path(config.encoder, config.weights), world.device)
    fresh = FreshSeries.read(config.phantom_dir, config.folds)
    slices = fresh.predict_slices(model, stage1, world, inference, config.slice_spacing_mm)
    localizers = points_mm(with_pixel_mm(fresh.spots[fresh.spots.kind == "positive"], fresh.cache))
    threshold = float(np.quantile(own_peaks(slices, localizers), 1 - config.found))
    print(f"{config.found:.0%} of {len(localizers)} localizers of phantoms have a peak from {threshold:.4f} on")
    healthy = fresh.series.SeriesInstanceUID[(fresh.series[PRESENT] == 0) & fresh.series.n_slices.notna()]
    n_alarms = len(alarms(slices[slices.SeriesInstanceUID.isin(healthy)], threshold))
    print(f"phantoms without an aneurysm: {n_alarms / len(healthy):.2f} peaks a series of {len(healthy)}")
    cache = Cache(config.real_dir)
    peaks = real_peaks(cache, model, stage1, world, inference, config.slice_spacing_mm)
    for uid, own in peaks.groupby("SeriesInstanceUID"):
        print(f"{uid}: {(own.probability >= threshold).sum()} peaks, the highest {own.probability.max():.4f}")
    n_real = peaks.SeriesInstanceUID.nunique()
    print(f"real heads: {(peaks.probability >= threshold).sum() / n_real:.2f} peaks a series of {n_real}")
    if config.plot:
        highest = peaks[peaks.probability >= threshold].nlargest(config.pictures, "probability")
        plot(cache, highest if len(highest) else peaks.nlargest(COLUMNS, "probability"), config.plot)
    end_distributed()


def real_peaks(
    cache: Cache,
    model: nn.Module,
    stage1: Stage1Config,
    world: DistContext,
    inference: InferenceConfig,
    slice_spacing_mm: float,
) -> pd.DataFrame:
    """All peaks of all series of a cache, as `alarms` with a threshold of 0."""
    places = slice_places(cache, cache.series_uids(), slice_spacing_mm)
    return alarms(predict_series_slices(model, cache, places, stage1, world, inference, "real heads"), 0.0)


def alarms(slices: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Peaks at or above a threshold in `slices` of predict_series_slices, none within APART_MM of a higher one."""
    peaks = points_mm(heatmap_candidates(slices, [PRESENT]))
    return suppress(peaks[peaks.probability >= threshold], APART_MM)


def plot(cache: Cache, peaks: pd.DataFrame, path: Path) -> None:
    """Saves a small picture of each peak, numbered in the order of the rows."""
    rows = -(-len(peaks) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(2 * COLUMNS, 2.2 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (axis, peak) in enumerate(zip(axes.flat, peaks.itertuples(), strict=False)):
        index = int(np.abs(cache.position_mm(peak.SeriesInstanceUID) - peak.position_mm).argmin())
        image = cache.window(peak.SeriesInstanceUID, [index])[0].astype(np.float32)
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_xlim(peak.x - SHOWN_PX, peak.x + SHOWN_PX)
        axis.set_ylim(peak.y + SHOWN_PX, peak.y - SHOWN_PX)
        axis.plot(peak.x, peak.y, "o", markersize=18, markerfacecolor="none", markeredgecolor="yellow")
        axis.set_title(f"{number + 1}: {peak.probability:.3f}, {peak.SeriesInstanceUID[-6:]} {index}", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    run_script(main, FalseAlarmsConfig, __doc__)
