"""A finding on the page: the slices around it to scroll through, an enlarged part, and a projection."""

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

PAGE_BYTES = 4_000_000  # one page, at most
PICTURE_BYTES = 3_400_000  # all pictures on it, as base64
ENLARGED, PROJECTED = 128, 256  # side of the part that these panes show, in pixels of the slice
WHOLE_BAR_MM, PROJECTED_BAR_MM, ENLARGED_BAR_MM = 50, 20, 10  # lengths of the scale bars
LINE_AT = 0.5  # outline, as a fraction of the heatmap's maximum
LINE_FLOOR = 0.05  # no outline below this value
EDGES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}  # letters at the left and right edge
UPWARD = {"axial": "the vertex", "coronal": "the back of the head", "sagittal": "the patient's left"}


@dataclass(frozen=True)
class Frame:
    """One slice to scroll to: a data: URI, and its caption."""

    source: str
    text: str


@dataclass(frozen=True)
class Panel:
    """A square part of the slices, scaled to the room on the page.

    name         its title
    left, top    first pixel shown; the panel shows `side` of the `size` pixels of the slice, in each direction
    bar_mm       length of the scale bar; bar_share is its share of the width
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
        """viewBox of the SVG overlay, in pixels of the slice; pixel centres are whole numbers."""
        return f"{self.left - 0.5} {self.top - 0.5} {self.side} {self.side}"

    @property
    def style(self) -> str:
        """CSS that places the whole slice so that the panel shows this part."""
        width, left, top = (100 * pixels / self.side + 0.0 for pixels in (self.size, -self.left, -self.top))
        return f"width: {width:.4f}%; left: {left:.4f}%; top: {top:.4f}%"


@dataclass(frozen=True)
class SliceView:
    """A picture, numbered from 1, and how it is drawn; `outline` is an SVG path, "" if there is nothing to draw.

    frames      the slices around it; its own slice has index `middle`
    whole, enlarged, projected  panels of a whole slice, of the part around the finding, of the projection
    projection  a data: URI
    edges       letters of the patient's sides at the left and right edge; None if the plane is unknown
    upward      direction of later slices; "" if the plane is unknown
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
    """The pictures in their order, ready for the page; without heatmaps there is no enlarged part and no outline."""
    return [
        _view(number, picture, plane, series_type, PICTURE_BYTES // len(pictures))
        for number, picture in enumerate(pictures, start=1)
    ]


def outline(heatmap: np.ndarray) -> str:
    """SVG path in pixels (centres on whole numbers) around values above half the maximum and above LINE_FLOOR.

    `heatmap` is (rows, columns) in [0, 1], or all NaN if there are no heatmaps.
    """
    highest = heatmap.max()  # NaN if the heatmap is
    if not highest >= LINE_FLOOR:
        return ""
    framed = np.pad(heatmap, 1)  # so that lines close at the image's edge
    lines = contourpy.contour_generator(z=framed).lines(max(LINE_AT * highest, LINE_FLOOR))
    return " ".join(_path(line - 1) for line in lines)


def _path(points: np.ndarray) -> str:
    """SVG path of a closed line, (n, 2) x and y, whose last point repeats the first."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1]) + "Z"


def _view(number: int, picture: Picture, plane: str | None, series_type: str | None, n_characters: int) -> SliceView:
    slab, size = picture.slab, len(picture.image)
    projection, projection_name = _projection(slab, series_type)
    # The middle slice is on the page twice: whole and enlarged.
    *sources, projected, _ = encode_within([*slab.images, projection, picture.image], n_characters)
    has_peak = bool(np.isfinite([picture.x, picture.y]).all())
    return SliceView(
        number, picture, tuple(Frame(source, _text(slab, i)) for i, source in enumerate(sources)), slab.middle,
        whole=_pane("Whole slice", picture, size, WHOLE_BAR_MM),
        enlarged=_pane("Around the finding", picture, ENLARGED, ENLARGED_BAR_MM) if has_peak else None,
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
    away = "the central one" if i == slab.middle else f"{away_mm:+.2f} mm from it"
    return f"Slice {slab.number[i]} at {slab.position_mm[i] + 0.0:.2f} mm, {away}"


def _pane(name: str, picture: Picture, side: int, bar_mm: int) -> Panel:
    """The part around the finding, or the whole slice; at the image's edge the finding is off-centre."""
    size = len(picture.image)
    side = min(side, size)
    left = top = 0
    if side < size:
        left, top = (int(np.clip(round(at) - side // 2, 0, size - side)) for at in (picture.x, picture.y))
    return Panel(name, left, top, side, size, bar_mm, bar_mm / (side * picture.pixel_mm))
