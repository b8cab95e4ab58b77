"""A suspicious slice as the page shows it: the image, a cut-out around the peak, and the heat as a line over both."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import contourpy
import cv2
import numpy as np

if TYPE_CHECKING:
    from aneurysm.inference.pictures import Picture

JPEG_QUALITY = 88
CUT_OUT = 128  # pixels of the slice that the cut-out shows, in each direction
ENLARGED = 4  # times
WHOLE_BAR_MM, CUT_OUT_BAR_MM = 50, 10  # lengths of the scale bars
LINE_AT = 0.5  # of the slice's highest heat
LINE_FLOOR = 0.05  # below this heat there is no line
EDGES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}  # letters at the left and right edge


@dataclass(frozen=True)
class Pane:
    """One image of the page.

    source    a data: URI
    view_box  of the SVG that lies over it, in pixels of the slice; pixel centres are whole numbers
    name      what it shows
    bar_mm    length of the scale bar, and its share of the width
    """

    source: str
    view_box: str
    name: str
    bar_mm: int
    bar_share: float


@dataclass(frozen=True)
class SliceView:
    """A picture, counted from 1, with what is drawn of it; `outline` is an SVG path, "" where there is nothing to draw.

    edges  letters of the patient's sides at the left and right edge of the image, None where the plane is not known
    """

    number: int
    picture: Picture
    panes: tuple[Pane, ...]
    outline: str
    edges: tuple[str, str] | None

    @property
    def has_peak(self) -> bool:
        return bool(np.isfinite([self.picture.x, self.picture.y]).all())


def slice_views(pictures: Sequence[Picture], plane: str | None) -> list[SliceView]:
    """The pictures in their order, ready for the page; without heatmaps there is no cut-out and no outline."""
    return [_view(number, picture, plane) for number, picture in enumerate(pictures, start=1)]


def outline(heat: np.ndarray) -> str:
    """SVG path in pixels (centres on whole numbers) around what is hotter than half of the highest heat.

    `heat` is (rows, columns) in [0, 1], or all NaN where there are no heatmaps.
    """
    highest = heat.max()  # NaN where heat is
    if not highest >= LINE_FLOOR:
        return ""
    framed = np.pad(heat, 1)  # so that lines close at the image's edge
    lines = contourpy.contour_generator(z=framed).lines(max(LINE_AT * highest, LINE_FLOOR))
    return " ".join(_path(line - 1) for line in lines)


def _path(points: np.ndarray) -> str:
    """(n, 2) x and y of a closed line whose last point is its first."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1]) + "Z"


def _view(number: int, picture: Picture, plane: str | None) -> SliceView:
    rows, columns = picture.image.shape
    bar = WHOLE_BAR_MM, WHOLE_BAR_MM / (columns * picture.pixel_mm)
    panes = [Pane(_data_uri(picture.image), f"-0.5 -0.5 {columns} {rows}", "Whole slice", *bar)]
    if np.isfinite([picture.x, picture.y]).all():
        panes.append(_cut_out(picture))
    return SliceView(number, picture, tuple(panes), outline(picture.heat), EDGES.get(plane))


def _cut_out(picture: Picture) -> Pane:
    """The part around the peak; at the image's edge the peak is off its middle."""
    rows, columns = picture.image.shape
    height, width = min(CUT_OUT, rows), min(CUT_OUT, columns)
    top = int(np.clip(round(picture.y) - height // 2, 0, rows - height))
    left = int(np.clip(round(picture.x) - width // 2, 0, columns - width))
    part = picture.image[top : top + height, left : left + width]
    larger = cv2.resize(part, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    bar = CUT_OUT_BAR_MM, CUT_OUT_BAR_MM / (width * picture.pixel_mm)
    view_box = f"{left - 0.5} {top - 0.5} {width} {height}"
    return Pane(_data_uri(larger), view_box, f"Around the peak, {ENLARGED} times", *bar)


def _data_uri(image: np.ndarray) -> str:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode("ascii")
