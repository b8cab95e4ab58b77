"""Figures of a result: ROC curves of the steps, reliability, and one held-out series slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from aneurysm.data.cache import Cache
from aneurysm.data.features import SeriesFeatures, read_features
from aneurysm.data.mapping import SIZE
from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.paths import ModelPaths
from aneurysm.report.summary import Step
from aneurysm.stage2.calibration import GROUPS, reliability

FOUND, MARKED = "tab:orange", "tab:green"
LOOKS = (("tab:orange", "s"), ("tab:blue", "o"))  # of answers before and after


def roc_figure(steps: Sequence[Step], out: Path) -> None:
    """Draws the PNG `out`: ROC curves of Aneurysm Present."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(5, 6))
    axis.plot([0, 1], [0, 1], color="gray", lw=0.8, ls=":")
    for step in steps:
        truth, said = step.truth[:, -1], step.predicted[:, -1]
        false, true, _ = roc_curve(truth, said)
        axis.plot(false, true, label=f"{step.name} ({step.cases}): {roc_auc_score(truth, said):.3f}")
    axis.set(
        xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"{PRESENT}, held-out cases",
        xlabel="1 - specificity", ylabel="sensitivity",
    )  # fmt: skip
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8, title="AUC", title_fontsize=8)
    _save(figure, out)


def reliability_figure(truth: np.ndarray, answers: Mapping[str, np.ndarray], out: Path) -> None:
    """Draws the PNG `out`: the share of positives in bins of like probability, and below it how many cases are in each.

    truth (series, 14); `answers` two of the same shape, by name.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(7.3, 4.8), height_ratios=[5, 1], sharex="col")
    for (group, columns), (upper, lower) in zip(GROUPS.items(), axes.T, strict=True):
        found = truth[:, columns].ravel()
        bins = {name: reliability(found, predicted[:, columns].ravel()) for name, predicted in answers.items()}
        highest = np.clip(1.08 * max(own[["said", "found"]].max().max() for own in bins.values()), 0.01, 1)
        upper.plot([0, 1], [0, 1], color="gray", lw=0.8, ls=":", label="perfect")
        for (name, own), (colour, marker) in zip(bins.items(), LOOKS, strict=True):
            upper.plot(own.said, own.found, color=colour, marker=marker, ms=5, lw=1.2, label=name)
            lower.vlines(own.said, 0, own.n, color=colour, lw=2)
        upper.set(xlim=(0, highest), ylim=(0, highest), ylabel="share with an aneurysm")
        upper.set_title(f"{group}\n{len(truth)} series, {found.sum()} of {len(found)} positive", fontsize=10)
        lower.set(xlabel="mean probability of a bin", ylabel="cases", ylim=(0, None))
    axes[0, 0].legend(loc="upper left", fontsize=9)
    _save(figure, out)


def series_figure(
    cache: Cache, model_paths: ModelPaths, fold: int, series_uid: str, localizers: pd.DataFrame, out: Path
) -> None:
    """Draws the PNG `out`: what the stage 1 that has not seen a series says about its slices, and its highest slice.

    `localizers` are the positive spots of the series (position_mm, x, y and location).
    """
    plt = _pyplot()
    features = read_features(model_paths.features(fold) / f"{series_uid}.safetensors")
    probability = 1 / (1 + np.exp(-features.logits[0, :, LABELS.index(PRESENT)].astype(float)))
    highest = int(probability.argmax())
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=[1.35, 1])
    left.plot(features.position_mm, probability, color="tab:blue", marker=".", label="stage 1, each slice")
    place = features.position_mm[highest], probability[highest]
    left.plot(*place, "o", ms=10, mfc="none", mew=2, color=FOUND, ls="", label="most suspicious slice")
    marked_mm = np.unique(localizers.position_mm)
    if len(marked_mm):
        left.vlines(marked_mm, 0, 1, color=MARKED, ls="--", lw=1.2, label="slice of a localizer")
    left.set(xlabel="position along the slice axis (mm)", ylabel=f"probability of {PRESENT}", ylim=(0, 1.02))
    left.legend(fontsize=8)
    _draw_slice(right, cache, series_uid, features, highest, localizers)
    _save(figure, out)


def _pyplot():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure, out: Path) -> None:
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    matplotlib.pyplot.close(figure)


def _draw_slice(
    axis, cache: Cache, series_uid: str, features: SeriesFeatures, number: int, localizers: pd.DataFrame
) -> None:
    """The slice with the peak of its highest heatmap and, where it has one, its localizer."""
    index = int(features.slice[number])
    axis.imshow(cache.window(series_uid, [index])[0].astype(np.float32), cmap="gray", vmin=0, vmax=1)
    title = f"slice {index + 1} of {cache.n_slices(series_uid)}"
    heat = features.heat[0, number]
    if np.isfinite(heat).any():
        location = int(np.nanargmax(heat))
        peak = [float(peaks[0, number, location]) * SIZE - 0.5 for peaks in (features.peak_x, features.peak_y)]
        axis.add_patch(matplotlib.patches.Circle(peak, SIZE / 24, fill=False, color=FOUND, lw=1.5))
        title += f"\nhighest heatmap: {LOCATIONS[location]}"
    for x, y in localizers.loc[localizers.slice.round() == index, ["x", "y"]].to_numpy():
        axis.add_patch(matplotlib.patches.Circle((x, y), SIZE / 18, fill=False, color=MARKED, lw=1.2, ls="--"))
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
