"""Where the windows come from that stage 1 is trained on: two series along their slice axis, windows of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from aneurysm.cache.cache import Cache
from aneurysm.cache.windows import crop_box, neighbours, seen_part
from aneurysm.dicom.mapping import SIZE
from aneurysm.folds.spots import distance_mm
from aneurysm.report.drawing import BLUE, GREEN, LINE_IN, ON_SLICE, ORANGE, QUIET, Sheet, styled
from aneurysm.report.short_names import short_name
from aneurysm.stage1.config import Stage1Config

KINDS = {"positive": GREEN, "safe negative": BLUE, "hard negative": ORANGE}
PANEL_IN, PANEL_X, PANEL_Y = (4.1, 2.55), (0.6, 5.65), 1.2  # width and height of a series' panel, and its top
COLUMN_MM = 14.0  # from one column of marks to the next
SIDE_IN, WINDOW_X, WINDOW_Y, ROW_IN = 1.53, (0.15, 5.2), 4.05, 1.92


@dataclass(frozen=True)
class SampledSeries:
    """A series and its slices that are trained on: `positive` and `safe negative` spots, `hard negative` slices."""

    uid: str
    kind: str  # CTA, MRA, ...
    plane: str
    spots: pd.DataFrame  # its rows of train_stage1_{F}_folds.csv
    slices: dict[str, np.ndarray]  # name of KINDS -> slice indices

    @property
    def positives(self) -> pd.DataFrame:
        return self.spots[self.spots.kind == "positive"]

    @property
    def n_negatives(self) -> int:
        return len(self.slices["safe negative"]) + len(self.slices["hard negative"])


def sampled_pair(spots: pd.DataFrame, hard: Mapping[str, np.ndarray]) -> tuple[SampledSeries, SampledSeries]:
    """An axial series with a localizer and one without, of the commonest kind that has both: those with the middling
    number of negatives, safe and hard, of the series that have hard ones, where any are known.

    `spots` are the rows of train_stage1_{F}_folds.csv, `hard` as of read_hard_negatives. Raises LookupError where
    no kind has both.
    """
    axial = [_series(uid, own, hard) for uid, own in spots[spots.plane == "axial"].groupby("SeriesInstanceUID")]
    axial = [one for one in axial if len(one.slices["safe negative"])]
    counted = "hard negative" if any(len(one.slices["hard negative"]) for one in axial) else "safe negative"
    shown = [one for one in axial if len(one.slices[counted])]
    by_kind = pd.Series([one.kind for one in shown], dtype=object).value_counts(sort=True)
    for kind in by_kind.index:
        sides = [[one for one in shown if one.kind == kind and bool(len(one.positives)) == w] for w in (True, False)]
        if all(sides):
            sides = [sorted(side, key=lambda one: (one.n_negatives, one.uid)) for side in sides]
            return tuple(side[len(side) // 2] for side in sides)
    raise LookupError(
        f"expected an axial series with a localizer and one without, of one kind and with {counted}s, found none"
    )


def _series(uid: str, spots: pd.DataFrame, hard: Mapping[str, np.ndarray]) -> SampledSeries:
    kinds = {name: np.unique(spots.slice[spots.kind == name].to_numpy(int)) for name in ("positive", "negative")}
    slices = {
        "positive": kinds["positive"], "safe negative": kinds["negative"],
        "hard negative": np.asarray(hard.get(uid, ()), int),
    }  # fmt: skip
    return SampledSeries(uid, spots.modality.iloc[0], spots.plane.iloc[0], spots, slices)


def sampling_figure(
    cache: Cache, pair: tuple[SampledSeries, SampledSeries], config: Stage1Config, safe_mm: float
) -> Sheet:
    """The figure. Raises ValueError where a negative lies within `safe_mm` of a localizer of its series."""
    for series in pair:
        _check(cache, series, safe_mm)
    sheet = Sheet(WINDOW_Y + 2 * ROW_IN + 0.4)
    _legend(sheet, config, safe_mm, any(len(one.slices["hard negative"]) for one in pair))
    letters = _examples(pair)
    for series, x in zip(pair, PANEL_X, strict=True):
        _panel(sheet, cache, series, x, {k: v for k, v in letters.items() if v[0] is series}, config, safe_mm)
    for number, (letter, (series, kind, index)) in enumerate(letters.items()):
        place = WINDOW_X[number % 2], WINDOW_Y + number // 2 * ROW_IN
        _window(sheet, cache, series, index, config, place, (letter, kind))
    _notes(sheet, config)
    return sheet


def _check(cache: Cache, series: SampledSeries, safe_mm: float) -> None:
    position_mm, marks = cache.position_mm(series.uid), series.positives.position_mm.to_numpy(float)
    for kind in ("safe negative", "hard negative"):
        nearest = distance_mm(position_mm[series.slices[kind]], marks).min(initial=np.inf)
        if nearest < safe_mm:
            raise ValueError(
                f"series {series.uid}: expected {kind}s at least {safe_mm:g} mm from a localizer, found {nearest:.1f}"
            )


def _examples(pair: tuple[SampledSeries, SampledSeries]) -> dict[str, tuple[SampledSeries, str, int]]:
    """Letter -> series, kind and slice of the windows shown: of each kind the one in the middle."""
    wanted = [(0, "positive"), (1, "safe negative"), (0, "safe negative"), (1, "hard negative")]
    there = [(pair[n], kind) for n, kind in wanted if len(pair[n].slices[kind])]
    return {
        letter: (series, kind, int(series.slices[kind][len(series.slices[kind]) // 2]))
        for letter, (series, kind) in zip("abcd", there, strict=False)
    }


def _legend(sheet: Sheet, config: Stage1Config, safe_mm: float, mined: bool) -> None:
    words = (
        "positive spot: slice of a localizer", "safe negative: drawn from the positives' heights",
        "hard negative: taken for an aneurysm by a stage 1 that had not seen the series"
        + ("" if mined else "; none is mined yet"),
    )  # fmt: skip
    for number, (color, caption) in enumerate(zip(KINDS.values(), words, strict=True)):
        y = 0.2 + 0.24 * number
        sheet.page.plot(0.25, y, "o", color=color, ms=6)
        sheet.text(0.42, y, caption, va="center")
    bands = (
        (GREEN, f"within {config.sampling.label_mm:g} mm of a localizer: a window is positive"),
        (QUIET, f"within {safe_mm:g} mm of a localizer: no negative is taken"),
    )
    for number, (color, caption) in enumerate(bands):
        y = 0.2 + 0.24 * number
        sheet.page.axhspan(y - 0.07, y + 0.07, 0.52, 0.54, color=_band(color), lw=0)
        sheet.text(5.52, y, caption, va="center")


def _band(color: str) -> str:
    return {GREEN: "#7cc79a", QUIET: "#d3dae1"}[color]


def _panel(
    sheet: Sheet, cache: Cache, series: SampledSeries, x: float, letters: dict, config: Stage1Config, safe_mm: float
) -> None:
    """One series: a coronal section as wide as it is, the ranges, and a column of marks for each kind."""
    name = ", ".join(dict.fromkeys(short_name(location) for location in series.positives.location))
    sheet.title(x, PANEL_Y - 0.1, f"{series.kind} with an aneurysm: {name}" if name else f"{series.kind} without one")
    axes = sheet.axes(x, PANEL_Y, *PANEL_IN)
    below_mm = below_top_mm(cache, series.uid)
    width_mm = SIZE * cache.meta(series.uid)["cached_col_mm"]
    section = coronal_section(cache, series)
    axes.imshow(section, cmap="gray", vmin=0, vmax=1, extent=(0, width_mm, below_mm[0], 0))
    columns = width_mm + COLUMN_MM * np.arange(1, 4)
    right = columns[-1] + COLUMN_MM
    for mm in below_mm[np.unique(series.positives.slice)]:
        axes.axhspan(mm - safe_mm, mm + safe_mm, color=_band(QUIET), alpha=0.45, lw=0, gid="safe_mm")
        axes.axhspan(
            mm - config.sampling.label_mm, mm + config.sampling.label_mm, color=_band(GREEN), lw=0, alpha=0.8,
            gid="label_mm",
        )  # fmt: skip
    with styled():
        for column, (kind, color) in zip(columns, KINDS.items(), strict=True):
            mm = below_mm[series.slices[kind]]
            axes.plot(np.full(len(mm), column), mm, "o", color=color, ms=4.5, mew=0, gid=kind, clip_on=False)
        for letter, (_, kind, index) in letters.items():
            column = columns[list(KINDS).index(kind)]
            axes.annotate(
                letter, (right + 2, below_mm[index]), color=KINDS[kind], weight="bold", va="center",
                annotation_clip=False,
            )  # fmt: skip
            axes.plot([column, right], [below_mm[index]] * 2, color=KINDS[kind], lw=1, clip_on=False)
        axes.set(xlim=(0, right), ylim=(below_mm[0], 0), xticks=[], anchor="NW")
        axes.spines[:].set_visible(False)
        axes.set_ylabel("mm below the uppermost slice" if x == PANEL_X[0] else "", labelpad=2)
        axes.locator_params(axis="y", nbins=5)


def below_top_mm(cache: Cache, series_uid: str) -> np.ndarray:
    """(slices,) distance of each slice from the uppermost one, decreasing to 0: the height that negatives share."""
    position_mm = cache.position_mm(series_uid)
    return position_mm[-1] - position_mm


def coronal_section(cache: Cache, series: SampledSeries) -> np.ndarray:
    """(SIZE / 2, SIZE) of an axial series through its first localizer, or its middle; from the uppermost slice down."""
    row = int(np.clip(series.positives.y.iloc[0] if len(series.positives) else 0.45 * SIZE, 0, SIZE - 1))
    position_mm = cache.position_mm(series.uid)
    wanted = np.linspace(position_mm[-1], position_mm[0], SIZE // 2)
    nearest = np.abs(position_mm[None] - wanted[:, None]).argmin(axis=1)
    lines = {index: cache.window(series.uid, [index])[0, row].astype(np.float32) for index in np.unique(nearest)}
    return np.stack([lines[index] for index in nearest])


def _window(
    sheet: Sheet, cache: Cache, series: SampledSeries, index: int, config: Stage1Config,
    place: tuple[float, float], about: tuple[str, str],
) -> None:  # fmt: skip
    """The slice of a window and those next to it, side by side, with their distances from it."""
    (x, y), (letter, kind), box = place, about, crop_box(config.input, series.plane)
    position_mm = cache.position_mm(series.uid)
    order = neighbours(position_mm, index, config.input.neighbour_mm)
    words = f"{kind}, {position_mm[-1] - position_mm[index]:.0f} mm below the uppermost slice"
    sheet.text(x, y, letter, KINDS[kind], bold=True, va="baseline")
    sheet.text(x + 0.2, y, words, va="baseline")
    for number, (slice_index, image) in enumerate(zip(order, cache.window(series.uid, order), strict=True)):
        axes = sheet.picture(x + number * (SIDE_IN + 0.03), y + 0.09, SIDE_IN, SIDE_IN, seen_part(image, box))
        with styled():
            offset = position_mm[slice_index] - position_mm[index]
            caption = f"{offset:+.1f} mm".replace("-", "\u2212") if offset else "0 mm"
            behind = {"facecolor": "black", "alpha": 0.6, "pad": 1.5, "lw": 0}
            axes.text(0.04, 0.04, caption, color="white", transform=axes.transAxes, bbox=behind)
        if slice_index == index:
            _circles(axes, series, box, position_mm[index], config.sampling.label_mm)


def _circles(axes: Axes, series: SampledSeries, box, position_mm: float, label_mm: float) -> None:
    """The localizers that the window is positive for."""
    near = series.positives[(series.positives.position_mm - position_mm).abs() <= label_mm]
    for point in box.to_input(near[["x", "y"]].to_numpy(float)):
        axes.add_patch(Circle(point, box.image_size / 14, fill=False, ec=ON_SLICE[GREEN], lw=1.4))


def _notes(sheet: Sheet, config: Stage1Config) -> None:
    """How often each kind is seen."""
    sampling, size = config.sampling, config.input.image_size
    first = (
        f"An epoch sees each positive spot {sampling.positive_repeats} times and {sampling.negatives_per_series} "
        f"negatives of each series, hard ones with a chance of {sampling.hard_p:.0%} where any are known;"
    )
    part = f", cut to a random part of {sampling.cut_size} × {sampling.cut_size}" if sampling.cut_size else ""
    second = (
        f"each is shifted by up to {sampling.shift_mm:g} mm and changed at random{part}. Here: all {size} × {size}."
    )
    y = sheet.size_in[1] - 0.12 - LINE_IN
    for line, words in enumerate((first, second)):
        sheet.text(0.15, y + (line - 1) * LINE_IN, words, QUIET)
