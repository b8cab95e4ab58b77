"""Figures of a result: ROC curves of the steps, reliability, and one held-out series slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from sklearn.metrics import roc_auc_score, roc_curve

from aneurysm.cache.cache import Cache
from aneurysm.cache.features import SeriesFeatures, read_features
from aneurysm.dicom.mapping import SIZE
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.paths import ModelPaths
from aneurysm.report.drawing import BLUE, GREEN, LINE, ON_SLICE, ORANGE, QUIET, WIDTH_IN, bare, save_figure, styled
from aneurysm.report.short_names import short_name
from aneurysm.report.summary import Step
from aneurysm.stage2.calibration import GROUPS, Calibrated, reliability
from aneurysm.stage2.temperature import write_temperature
from aneurysm.tables import write_csv

LOOKS = ((ORANGE, "s"), (BLUE, "o"))  # before and after calibration


@styled()
def roc_figure(steps: Sequence[Step], out: Path) -> None:
    """Draws the PNG `out`: ROC curves of Aneurysm Present."""
    figure = Figure(figsize=(4.6, 5.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=LINE, lw=1, ls=":")
    for step, color in zip(steps, (QUIET, ORANGE, BLUE, GREEN), strict=False):
        truth, predicted = step.truth[:, -1], step.predicted[:, -1]
        false, true, _ = roc_curve(truth, predicted)
        label = f"{step.name}, {step.cases}: {roc_auc_score(truth, predicted):.3f}"
        axes.plot(false, true, color=color, lw=1.5, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="1 \u2212 specificity", ylabel="sensitivity")
    figure.legend(loc="outside lower left", title=f"{PRESENT}, held out: AUC", alignment="left")
    save_figure(figure, out)


@styled()
def reliability_figure(truth: np.ndarray, predictions: Mapping[str, np.ndarray], out: Path) -> None:
    """Draws the PNG `out`: the share of positives in bins of predicted probability, and below it the cases per bin.

    truth (series, 14); `predictions` two arrays of that shape, by name.
    """
    figure = Figure(figsize=(WIDTH_IN, 5.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.05)
    for (group, columns), (upper, lower) in zip(
        GROUPS.items(), figure.subplots(2, 2, height_ratios=[5, 1], sharex="col").T, strict=True
    ):
        found = truth[:, columns].ravel()
        bins = {name: reliability(found, predicted[:, columns].ravel()) for name, predicted in predictions.items()}
        highest = np.clip(1.08 * max(own[["predicted", "found"]].max().max() for own in bins.values()), 0.01, 1)
        upper.plot([0, 1], [0, 1], color=LINE, lw=1, ls=":", label="perfect")
        for (name, own), (color, marker) in zip(bins.items(), LOOKS, strict=True):
            upper.plot(own.predicted, own.found, color=color, marker=marker, ms=5, lw=1.4, label=name)
            lower.vlines(own.predicted, 0, own.n, color=color, lw=2)
        upper.set(xlim=(0, highest), ylim=(0, highest), ylabel="share with an aneurysm")
        upper.set_title(f"{group}\n{len(truth)} series, {found.sum()} of {len(found)} positive")
        lower.set(xlabel="mean probability of a bin", ylabel="cases", ylim=(0, None))
        upper.legend(loc="upper left")
    save_figure(figure, out)


@styled()
def series_figure(
    cache: Cache, model_paths: ModelPaths, fold: int, series_uid: str, localizers: pd.DataFrame, out: Path
) -> None:
    """Draws the PNG `out`: the held-out stage 1's probability along a series, and its most suspicious slice.

    `localizers` are the positive spots of the series (position_mm, x, y and location).
    """
    features = read_features(model_paths.features(fold) / f"{series_uid}.safetensors")
    probability = 1 / (1 + np.exp(-features.logits[0, :, LABELS.index(PRESENT)].astype(float)))
    highest = int(probability.argmax())
    figure = Figure(figsize=(WIDTH_IN, 4.1), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    left.plot(features.position_mm, probability, color=BLUE, marker=".", label="stage 1, each slice")
    place = features.position_mm[highest], probability[highest]
    left.plot(*place, "o", ms=10, mfc="none", mew=2, color=ORANGE, ls="", label="most suspicious slice")
    localizer_positions = np.unique(localizers.position_mm)
    if len(localizer_positions):
        left.vlines(localizer_positions, 0, 1, color=GREEN, ls="--", lw=1.4, label="slice of a localizer")
    left.set(xlabel="mm along the slice axis", ylabel=f"probability of {PRESENT}", ylim=(0, 1.02))
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, handlelength=1.6)
    _draw_slice(right, cache, series_uid, features, highest, localizers)
    save_figure(figure, out)


def _draw_slice(
    axis, cache: Cache, series_uid: str, features: SeriesFeatures, number: int, localizers: pd.DataFrame
) -> None:
    """The slice with the peak of its highest heatmap and its localizer, if it has one."""
    index = int(features.slice[number])
    axis.imshow(cache.window(series_uid, [index])[0].astype(np.float32), cmap="gray", vmin=0, vmax=1)
    title = f"slice {index + 1} of {cache.n_slices(series_uid)}"
    highest = features.heatmap_max[0, number, : len(LOCATIONS)]
    if np.isfinite(highest).any():
        location = int(np.nanargmax(highest))
        peak = [float(peaks[0, number, location]) * SIZE - 0.5 for peaks in (features.peak_x, features.peak_y)]
        axis.add_patch(Circle(peak, SIZE / 24, fill=False, color=ON_SLICE[ORANGE], lw=1.5))
        title += f"\nhighest heatmap: {short_name(LOCATIONS[location])}"
    for x, y in localizers.loc[localizers.slice.round() == index, ["x", "y"]].to_numpy():
        axis.add_patch(Circle((x, y), SIZE / 18, fill=False, color=ON_SLICE[GREEN], lw=1.4, ls="--"))
    axis.set_title(title)
    bare(axis)


def write_calibrated(paths: ModelPaths, scaled: Calibrated) -> list[Path]:
    """Prints the effect of the temperatures; writes table, figure and temperature for export; returns their paths."""
    print(f"\n{scaled.text(paths.encoder)}\n")
    table, figure = paths.oof_stage2_calibrated_csv, paths.folder / "reliability.png"
    write_csv(scaled.after.table(), table)
    write_temperature(paths, list(scaled.temperatures), scaled.overall)
    reliability_figure(scaled.before.truth, scaled.predictions, figure)
    return [table, figure, paths.temperature_json]
