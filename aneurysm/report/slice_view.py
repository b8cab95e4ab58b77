"""A suspicious slice as the page shows it: the slices around to scroll through, a part enlarged, their projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import contourpy
import numpy as np

from aneurysm.inference.slab import BONE, BONE_REACH_MM, DARK_VESSELS, Slab
from aneurysm.report.jpeg import encode_within

if TYPE_CHECKING:
    from aneurysm.inference.pictures import Picture

PAGE_BYTES = 4_000_000  # of a page, at most
PICTURE_BYTES = 3_400_000  # of all pictures on it, as base64
ENLARGED, PROJECTED = 128, 256  # pixels of the slice that these panes show, in each direction
WHOLE_BAR_MM, PROJECTED_BAR_MM, ENLARGED_BAR_MM = 50, 20, 10  # lengths of the scale bars
LINE_AT = 0.5  # of the heatmap's highest value
LINE_FLOOR = 0.05  # below this value there is no line
EDGES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}  # letters at the left and right edge
UPWARD = {"axial": "the vertex", "coronal": "the back of the head", "sagittal": "the patient's left"}


@dataclass(frozen=True)
class Frame:
    """One slice to scroll to: a data: URI, and which slice it is, in words."""

    source: str
    text: str


@dataclass(frozen=True)
class Panel:
    """A square part of the slices, as large as the page has room for.

    name         what it shows
    left, top    of the part, in pixels of the slice; `side` of them are shown in each direction, of `size`
    bar_mm       length of the scale bar, and its share of the width
    """

    name: str
    left: int
    top: int
    side: int
    size: int
    bar_mm: int
    bar_share: float

    @property
    def view_box(self) -> str:
        """Of the SVG that lies over it, in pixels of the slice; pixel centres are whole numbers."""
        return f"{self.left - 0.5} {self.top - 0.5} {self.side} {self.side}"

    @property
    def style(self) -> str:
        """Where the whole slice lies, of which the pane shows the part."""
        width, left, top = (100 * pixels / self.side + 0.0 for pixels in (self.size, -self.left, -self.top))
        return f"width: {width:.4f}%; left: {left:.4f}%; top: {top:.4f}%"


@dataclass(frozen=True)
class SliceView:
    """A picture, counted from 1, with what is drawn of it; `outline` is an SVG path, "" where there is nothing to draw.

    frames      the slices around it, the suspicious one in the `middle`
    whole, enlarged, projected  what the panes show: all of a slice, the part around the peak, the projection
    projection  a data: URI
    edges       letters of the patient's sides at the left and right edge; None where the plane is not known
    upward      where later slices lie; "" where the plane is not known
    """

    number: int
    picture: Picture
    frames: tuple[Frame, ...]
    middle: int
    whole: Panel
    enlarged: Panel | None
    projected: Panel
    projection: str
    outline: str
    edges: tuple[str, str] | None
    upward: str

    @property
    def has_peak(self) -> bool:
        return bool(np.isfinite([self.picture.x, self.picture.y]).all())


def slice_views(pictures: Sequence[Picture], plane: str | None, series_type: str | None) -> list[SliceView]:
    """The pictures in their order, ready for the page; without heatmaps nothing is enlarged and there is no outline."""
    return [
        _view(number, picture, plane, series_type, PICTURE_BYTES // len(pictures))
        for number, picture in enumerate(pictures, start=1)
    ]


def outline(heatmap: np.ndarray) -> str:
    """SVG path in pixels (centres on whole numbers) around what is higher than half of its highest value.

    `heatmap` is (rows, columns) in [0, 1], or all NaN where there are no heatmaps.
    """
    highest = heatmap.max()  # NaN where the heatmap is
    if not highest >= LINE_FLOOR:
        return ""
    framed = np.pad(heatmap, 1)  # so that lines close at the image's edge
    lines = contourpy.contour_generator(z=framed).lines(max(LINE_AT * highest, LINE_FLOOR))
    return " ".join(_path(line - 1) for line in lines)


def _path(points: np.ndarray) -> str:
    """(n, 2) x and y of a closed line whose last point is its first."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1]) + "Z"


def _view(number: int, picture: Picture, plane: str | None, series_type: str | None, n_characters: int) -> SliceView:
    slab, size = picture.slab, len(picture.image)
    projection, projection_name = _projection(slab, series_type)
    # The middle one stands on the page twice: enlarged, too.
    *sources, projected, _ = encode_within([*slab.images, projection, picture.image], n_characters)
    has_peak = bool(np.isfinite([picture.x, picture.y]).all())
    return SliceView(
        number, picture, tuple(Frame(source, _text(slab, i)) for i, source in enumerate(sources)), slab.middle,
        whole=_pane("Whole slice", picture, size, WHOLE_BAR_MM),
        enlarged=_pane("Around the peak", picture, ENLARGED, ENLARGED_BAR_MM) if has_peak else None,
        projected=_pane(projection_name, picture, PROJECTED if has_peak else size, PROJECTED_BAR_MM),
        projection=projected, outline=outline(picture.heatmap), edges=EDGES.get(plane), upward=UPWARD.get(plane, ""),
    )  # fmt: skip


def _projection(slab: Slab, series_type: str | None) -> tuple[np.ndarray, str]:
    """(512, 512) uint8 and its name."""
    slab = slab.within(BONE_REACH_MM) if series_type in BONE else slab
    extreme = "Minimum" if series_type in DARK_VESSELS else "Maximum"
    n_slices = len(slab.number)
    over = "1 slice" if n_slices == 1 else f"{n_slices} slices over {slab.thickness_mm:.2f} mm"
    return slab.projection(series_type in DARK_VESSELS), f"{extreme} of {over}"


def _text(slab: Slab, i: int) -> str:
    away_mm = slab.position_mm[i] - slab.position_mm[slab.middle]
    away = "the suspicious one" if i == slab.middle else f"{away_mm:+.2f} mm from it"
    return f"Slice {slab.number[i]} at {slab.position_mm[i] + 0.0:.2f} mm, {away}"


def _pane(name: str, picture: Picture, side: int, bar_mm: int) -> Panel:
    """The part around the peak, or all; at the image's edge the peak is off its middle."""
    size = len(picture.image)
    side = min(side, size)
    left = top = 0
    if side < size:
        left, top = (int(np.clip(round(at) - side // 2, 0, size - side)) for at in (picture.x, picture.y))
    return Panel(name, left, top, side, size, bar_mm, bar_mm / (side * picture.pixel_mm))
