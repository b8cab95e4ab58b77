"""The whole project in one figure: from the DICOM files of a held-out series to its 14 probabilities and the place."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Circle, Rectangle

from aneurysm.cache.windows import neighbours, seen_part
from aneurysm.dicom.mapping import SIZE
from aneurysm.dicom.series import read_series
from aneurysm.labels import LABELS
from aneurysm.report.drawing import BLUE, GREEN, INK, ON_SLICE, QUIET, TINTS, Sheet, styled
from aneurysm.report.example import Example, miss_mm
from aneurysm.report.short_names import short_name

TILE, PITCH, LEFT = 1.85, 2.61, 0.2  # inches: a picture of the upper row, from one to the next, the first
TITLE_Y, PICTURE_Y, CAPTION_Y, LOWER = 0.26, 0.38, 2.3, 3.18
GLOW = LinearSegmentedColormap.from_list("glow", [(1, 0.6, 0.1, 0.0), (1, 0.6, 0.1, 0.75), (1, 0.35, 0.0, 0.95)])
N_CARDS, CARD_STEP = 3, 0.13


def pipeline_figure(example: Example) -> Sheet:
    """The figure; ValueError naming the folder where the series' DICOM files are missing."""
    sheet = Sheet(6.3)
    _dicom(sheet, example)
    _preprocessed(sheet, example)
    _window(sheet, example)
    _stage1(sheet, example)
    for number in range(3):
        x = LEFT + number * PITCH + TILE
        sheet.arrow((x + 0.1, PICTURE_Y + TILE / 2), (x + PITCH - TILE - 0.1, PICTURE_Y + TILE / 2))
    every_mm = example.features.every_mm
    low = LOWER - 0.13
    sheet.arrow((9.0, CAPTION_Y + 0.6), (9.0, low), (1.85, low), (1.85, LOWER + 0.1))
    how = f"every {every_mm:g} mm" if every_mm else "every slice"
    sheet.text(5.4, low - 0.04, f"asked about {how} along the series", QUIET, ha="center", va="bottom")
    _curve(sheet, example)
    _tokens(sheet, example)
    _answer(sheet, example)
    return sheet


def _tile(sheet: Sheet, number: int, title: str, caption: Sequence[str]) -> tuple[float, float, float, float]:
    """Words above and below the picture of a tile of the upper row; where the picture goes."""
    x = LEFT + number * PITCH
    sheet.title(x, TITLE_Y, title)
    sheet.text(x, CAPTION_Y, "\n".join(caption), QUIET)
    return x, PICTURE_Y, TILE, TILE


def _dicom(sheet: Sheet, example: Example) -> None:
    """Slices as the files hold them, in front the one that the other tiles show."""
    first, middle = int(example.series["crop_first"]), int(example.peak["slice"])
    n_slices = example.cache.n_slices(example.uid)
    shown = [first + index for index in (middle, n_slices // 5, 4 * n_slices // 5)]
    series = read_series(example.cache.paths.series / example.uid, shown)
    rows, columns = series.geometry.canonical_shape[1:]
    low, high = (-1000, 1000) if series.modality == "CT" else np.percentile(series.pixels, [0.5, 99.8])
    x, y, size, _ = _tile(sheet, 0, "DICOM series", [
        f"{len(series.frames)} images of", f"{columns} × {rows}, {example.series['series_type']}",
    ])  # fmt: skip
    sheet.cards(x, y, size, [_square((image - low) / (high - low)) for image in series.pixels], CARD_STEP)


def _square(image: np.ndarray) -> np.ndarray:
    """The image in the middle of a black square."""
    side = max(image.shape)
    edges = [((side - n) // 2, side - n - (side - n) // 2) for n in image.shape]
    return np.pad(image, edges)


def _preprocessed(sheet: Sheet, example: Example) -> None:
    row = example.series
    is_ct = row["modality"] == "CT"
    values = f"{row['window_low']:g} to {row['window_high']:g} HU" if is_ct else "robust percentiles"
    place = _tile(sheet, 1, "Preprocess", [
        "one orientation, the head,", f"{SIZE} × {SIZE} pixels,", f"{values}: 0 to 1",
    ])  # fmt: skip
    index = int(example.peak["slice"])
    axes = sheet.picture(*place, example.cache.window(example.uid, [index])[0].astype(np.float32))
    box = example.box
    axes.add_patch(Rectangle((box.left, box.top), box.width, box.height, fill=False, ec=ON_SLICE[BLUE], lw=1.4))


def _window(sheet: Sheet, example: Example) -> None:
    config = example.config.input
    x, y, size, _ = _tile(sheet, 2, "Window", [
        f"{config.n_slices} slices, {config.neighbour_mm:g} mm apart,", "vessel region (blue frame),",
        f"{config.image_size} × {config.image_size}",
    ])  # fmt: skip
    order = neighbours(example.cache.position_mm(example.uid), int(example.peak["slice"]), config.neighbour_mm)
    images = example.cache.window(example.uid, [order[1], order[0], order[2]])  # the slice and those next to it
    sheet.cards(x, y, size, [seen_part(image, example.box) for image in images], CARD_STEP)


def _stage1(sheet: Sheet, example: Example) -> None:
    """The window's own slice under the glow of its heatmap, and the localizer."""
    peak, size = example.peak, example.config.input.image_size
    place = _tile(sheet, 3, "Stage 1: encoder", [
        "14 logits and a heatmap,", f"peak {peak['heat']:.2f}: {short_name(peak['location'])};", "green: localizer",
    ])  # fmt: skip
    axes = sheet.picture(*place, example.window()[..., example.config.input.n_slices // 2])
    heat = cv2.resize(example.heat(), (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    axes.imshow(heat, cmap=GLOW, vmin=0, vmax=max(0.5, float(heat.max())), aspect="auto")
    for x, y in example.box.to_input(example.localizers[["x", "y"]].to_numpy(float)):
        axes.add_patch(Circle((x, y), size / 14, fill=False, ec=ON_SLICE[GREEN], lw=1.4, ls="--"))


def _curve(sheet: Sheet, example: Example) -> None:
    """What stage 1 says about each sampled slice."""
    sheet.title(0.2, LOWER + 0.3, "Along the series")
    axes = sheet.axes(0.6, LOWER + 0.48, 2.45, 1.75)
    with styled():
        axes.vlines(np.unique(example.localizers.position_mm), 0, 1, color=GREEN, ls="--", lw=1.3)
        axes.plot(example.features.position_mm, example.curve, color=BLUE, lw=1.4)
        axes.set(ylim=(0, 1), yticks=[0, 0.5, 1], xlabel="mm along the slice axis")
        axes.margins(x=0.02)
        axes.locator_params(axis="x", nbins=4)
    sheet.text(0.2, LOWER + 2.72, "stage 1's Aneurysm Present;\ngreen: slice of the localizer", QUIET)
    sheet.arrow((3.15, LOWER + 1.35), (3.65, LOWER + 1.35))


def _tokens(sheet: Sheet, example: Example) -> None:
    """The series as stage 2 reads it: a column a slice, a row a label."""
    sheet.title(3.75, LOWER + 0.3, "Stage 2: transformer")
    logits = example.features.logits[0].astype(np.float32).T
    axes = sheet.picture(
        3.75, LOWER + 0.48, 2.1, 1.75, logits, vmin=np.percentile(logits, 1), vmax=logits.max(),
        cmap=LinearSegmentedColormap.from_list("logits", ["white", TINTS[BLUE], BLUE]), interpolation="nearest",
    )  # fmt: skip
    with styled():
        axes.set_xlabel(f"{logits.shape[1]} slices, each a token")
    words = "here: their 14 logits; attention\nfalls off with distance in mm,\neach slice is judged again"
    sheet.text(3.75, LOWER + 2.54, words, QUIET)
    sheet.arrow((5.95, LOWER + 1.35), (6.4, LOWER + 1.35))


def _answer(sheet: Sheet, example: Example) -> None:
    """The 14 probabilities, highest label last as in the metric, with the other folds' prevalence."""
    sheet.title(6.5, LOWER + 0.3, "14 probabilities and the place")
    axes = sheet.axes(8.0, LOWER + 0.42, 1.45, 2.06)
    rows = np.arange(len(LABELS))[::-1]
    shown, prevalence = example.probability, example.prevalence
    colors = [GREEN if true else BLUE for true in example.truth]
    with styled():
        axes.barh(rows, np.ones(len(rows)), color=TINTS[QUIET], height=0.62)
        axes.barh(rows, shown, color=colors, height=0.62)
        axes.vlines(prevalence, rows - 0.42, rows + 0.42, color=INK, lw=1.2)
        axes.set(xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4), xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
        for row, label, value, true in zip(rows, LABELS, shown, example.truth, strict=True):
            about = {"va": "center", "weight": "bold" if true else "normal", "color": GREEN if true else INK}
            axes.text(-0.04, row, short_name(label), ha="right", **about)
            axes.text(1.04, row, f"{value:.2f}", ha="left", **about)
    x, y, _, _ = example.cache.mapping(example.uid).to_original(*(example.peak[k] for k in ("x", "y", "slice")))
    miss = miss_mm(example.peak, example.localizers, example.cache.meta(example.uid))
    words = f"green: true; tick: prevalence;\n{short_name(example.peak['location'])} at column {x:.0f}, row {y:.0f}\n"
    words += f"of the original image, {miss:.1f} mm from the localizer"
    sheet.text(6.5, LOWER + 2.54, words, QUIET)
