"""The one style of all figures, and sheets of boxes, arrows and pictures that are placed in inches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from aneurysm.paths import atomic_write

WIDTH_IN = 10.0  # of a figure as wide as the README's column, 800 to 900 pixels there
FONT_PT = 9.5  # eleven pixels there: the one size of letters
DPI = 180
LINE_IN = 0.185  # from one line of text to the next

INK, QUIET, LINE, PALE = "#17212b", "#51606e", "#b4bfc9", "#f1f4f7"
BLUE, GREEN, ORANGE = "#1f5f95", "#2b7a4b", "#c05a00"  # what models do and say; the truth; mistakes, and losses
TINTS = {BLUE: "#e2edf6", GREEN: "#e0f1e6", ORANGE: "#fcead9", QUIET: PALE}
ON_SLICE = {BLUE: "#6cb6f5", GREEN: "#5fe08f", ORANGE: "#ffa23e"}  # the same on a black picture

_STYLE = {
    "font.family": "DejaVu Sans", "font.size": FONT_PT, "axes.titlesize": FONT_PT, "axes.labelsize": FONT_PT,
    "xtick.labelsize": FONT_PT, "ytick.labelsize": FONT_PT, "legend.fontsize": FONT_PT,
    "legend.title_fontsize": FONT_PT, "legend.frameon": False, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": LINE, "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white",
    "axes.facecolor": "white", "axes.grid": False, "grid.color": TINTS[QUIET],
}  # fmt: skip


def styled():
    """A `with` block, or a decorator of a function, that draws in this style."""
    return rc_context(_STYLE)


def save_figure(figure: Figure, out: Path) -> None:
    """Writes the PNG `out`, white behind all that is drawn, whole or not at all."""
    with atomic_write(out) as beside:
        figure.savefig(beside, dpi=DPI, facecolor="white", format="png")


class Sheet:
    """A page of `height_in` inches by WIDTH_IN; x from its left edge, y from its top, in inches."""

    def __init__(self, height_in: float, width_in: float = WIDTH_IN):
        self.size_in = (width_in, height_in)
        with styled():
            self.figure = Figure(figsize=self.size_in)
            self.page = self.figure.add_axes((0, 0, 1, 1))
            self.page.set(xlim=(0, width_in), ylim=(height_in, 0))
            self.page.set_axis_off()
        self.boxed: list[tuple[FancyBboxPatch, Text]] = []  # each box and the text in it
        self.paths: list[np.ndarray] = []  # (points, 2) of each arrow

    def text(self, x: float, y: float, words: str, color: str = INK, bold: bool = False, **about) -> Text:
        """Words whose upper left corner lies at (x, y), if `ha` and `va` do not say otherwise."""
        placed = {"ha": "left", "va": "top", "linespacing": 1.25} | about
        with styled():
            return self.page.text(x, y, words, color=color, weight="bold" if bold else "normal", **placed)

    def title(self, x: float, y: float, words: str) -> Text:
        """Bold words that stand on the line `y`."""
        return self.text(x, y, words, bold=True, va="baseline")

    def column_titles(self, columns: Sequence[tuple[float, float]], titles: Sequence[str]) -> None:
        """A title over each column, given as its left edge and width."""
        for (x, _), words in zip(columns, titles, strict=True):
            self.title(x, 0.27, words)

    def box(
        self, x: float, y: float, width: float, height: float, words: str, color: str = QUIET, **about
    ) -> FancyBboxPatch:
        """A rounded box with words in its middle; `dashed` says that it is not there, `plain` leaves it white."""
        dashed, plain = about.pop("dashed", False), about.pop("plain", False)
        patch = FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.06", linewidth=1,
            facecolor="white" if dashed or plain else TINTS[color], edgecolor=color, linestyle="--" if dashed else "-",
        )  # fmt: skip
        self.page.add_patch(patch)
        middle = x + width / 2, y + height / 2
        ink = QUIET if dashed else INK
        self.boxed.append((patch, self.text(*middle, words, ha="center", va="center", color=ink, **about)))
        return patch

    def group(self, x: float, y: float, width: float, height: float, color: str = QUIET, words: str = "") -> None:
        """A frame around boxes that belong together, with words at its foot."""
        style = "round,pad=0,rounding_size=0.08"
        self.page.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, lw=1, fc=TINTS[color], ec=color))
        if words:
            self.text(x + width / 2, y + height - 0.06, words, ha="center", va="bottom")

    def arrow(self, *points: tuple[float, float], color: str = QUIET, head: bool = True) -> None:
        """A line through the points, with a head at the last one."""
        self.paths.append(np.array(points, float))
        x, y = np.array(points, float).T
        self.page.plot(x[:-1], y[:-1], color=color, lw=1.2, solid_capstyle="projecting")
        how = {"arrowstyle": "-|>,head_width=0.22,head_length=0.42" if head else "-", "color": color, "lw": 1.2}
        self.page.annotate("", points[-1], points[-2], arrowprops=how | {"shrinkA": 0, "shrinkB": 0})

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes over a part of the page."""
        across, down = self.size_in
        with styled():
            return self.figure.add_axes((x / across, 1 - (y + height) / down, width / across, height / down))

    def picture(self, x: float, y: float, width: float, height: float, image: np.ndarray, **about) -> Axes:
        """An image in [0, 1] in shades of grey, in a thin frame."""
        axes = self.axes(x, y, width, height)
        axes.imshow(image, **{"cmap": "gray", "vmin": 0, "vmax": 1, "aspect": "auto"} | about)
        bare(axes)
        return axes

    def cards(self, x: float, y: float, size: float, images: Sequence[np.ndarray], step: float) -> Axes:
        """Square images one behind the other, the first in front at the lower left; the axes of the first."""
        n = len(images)
        side = size - step * (n - 1)
        for place in range(n - 1, -1, -1):
            axes = self.picture(x + place * step, y + (n - 1 - place) * step, side, side, images[place])
            framed(axes, "white", 1.5)
        return axes

    def save(self, out: Path) -> None:
        """Writes the PNG `out`."""
        save_figure(self.figure, out)


def bare(axes: Axes) -> None:
    """No ticks, a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    framed(axes, LINE, 0.8)


def framed(axes: Axes, color: str, width: float) -> None:
    """A frame of that colour and width (points) on all four sides."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=width)


def legend(sheet: Sheet, y: float) -> None:
    """What the boxes of an architecture say by their colours, on the line `y`."""
    kinds = ((QUIET, "data", 0.15), (BLUE, "learned", 1.25), (GREEN, "answer", 2.6), (ORANGE, "loss", 3.9))
    for color, words, x in (*kinds, (QUIET, "not in this model", 5.0)):
        sheet.box(x, y - 0.08, 0.26, 0.16, "", color, dashed=words.startswith("not"))
        sheet.text(x + 0.36, y, words, QUIET, va="center")
