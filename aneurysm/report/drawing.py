"""The style of all figures, and sheets of text and pictures that are placed in inches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from aneurysm.paths import atomic_write

WIDTH_IN = 10.0  # as wide as the README's column, where it is 800 to 900 pixels
FONT_PT = 9.5  # eleven pixels there; the only font size
DPI = 180

INK, QUIET, LINE, PALE = "#17212b", "#51606e", "#b4bfc9", "#f1f4f7"
BLUE, GREEN, ORANGE = "#1f5f95", "#2b7a4b", "#c05a00"  # predictions; ground truth; errors and losses
ON_SLICE = {BLUE: "#6cb6f5", GREEN: "#5fe08f", ORANGE: "#ffa23e"}  # the same on a dark image

_STYLE = {
    "font.family": "DejaVu Sans", "font.size": FONT_PT, "axes.titlesize": FONT_PT, "axes.labelsize": FONT_PT,
    "xtick.labelsize": FONT_PT, "ytick.labelsize": FONT_PT, "legend.fontsize": FONT_PT,
    "legend.title_fontsize": FONT_PT, "legend.frameon": False, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": LINE, "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white",
    "axes.facecolor": "white", "axes.grid": False, "grid.color": PALE,
}  # fmt: skip


def styled():
    """A context manager or decorator that draws in this style."""
    return rc_context(_STYLE)


def save_figure(figure: Figure, out: Path) -> None:
    """Writes the PNG `out` atomically, with a white background."""
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

    def text(self, x: float, y: float, words: str, color: str = INK, bold: bool = False, **about) -> Text:
        """Text with its upper left corner at (x, y), unless `ha` and `va` say otherwise."""
        placed = {"ha": "left", "va": "top", "linespacing": 1.25} | about
        with styled():
            return self.page.text(x, y, words, color=color, weight="bold" if bold else "normal", **placed)

    def title(self, x: float, y: float, words: str) -> Text:
        """Bold text with its baseline at `y`."""
        return self.text(x, y, words, bold=True, va="baseline")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes over a part of the page."""
        across, down = self.size_in
        with styled():
            return self.figure.add_axes((x / across, 1 - (y + height) / down, width / across, height / down))

    def picture(self, x: float, y: float, width: float, height: float, image: np.ndarray, **about) -> Axes:
        """A greyscale image in [0, 1] with a thin frame."""
        axes = self.axes(x, y, width, height)
        axes.imshow(image, **{"cmap": "gray", "vmin": 0, "vmax": 1, "aspect": "auto"} | about)
        bare(axes)
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
    """A frame of this colour and width (points) on all four sides."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=width)
