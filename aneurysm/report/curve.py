"""The curve of a series on its page: coordinates in per cent of the plot, from its top left corner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from aneurysm.labels import PRESENT

if TYPE_CHECKING:
    from aneurysm.inference.pictures import Picture

MARK_GAP = 9.0  # between the numbers above the plot, in per cent of its width
MOST_TICKS = 6
AXIS = {
    "axial": "neck at the left, vertex at the right",
    "coronal": "face at the left, back of the head at the right",
    "sagittal": "patient's right at the left, patient's left at the right",
}


@dataclass(frozen=True)
class Annotation:
    """A picture's point on the curve, and the position of its number above the plot."""

    number: int
    x: float
    y: float
    number_x: float


@dataclass(frozen=True)
class Tooltip:
    """The stripe of the plot that shows a window's slice number, position and probability on hover."""

    x: float
    width: float
    slice: int
    position_mm: float
    probability: float


@dataclass(frozen=True)
class Curve:
    """The curve of a series, ready to draw.

    points, other  "x,y x,y ..." of Aneurysm Present and of the location `other_name`
    ticks          (x, mm) of the axis
    axis           direction of the axis in the patient; "" if the plane is unknown
    """

    points: str
    other: str
    other_name: str
    ticks: list[tuple[float, str]]
    axis: str
    annotations: list[Annotation]
    hovers: list[Tooltip]


def draw_curve(record: dict, pictures: Sequence[Picture]) -> Curve | None:
    """The curve of a record (see record_of) with the pictures marked on it; None if the record has none."""
    curves = record["curves"]
    if curves is None or not curves["slice"]:
        return None
    mm = np.array(curves["position_mm"], float)
    low, span = mm[0], float(mm[-1] - mm[0])

    def across(place: np.ndarray | float) -> np.ndarray | float:
        return 100 * (place - low) / span if span > 0 else 50 + 0 * place

    present = np.array(curves["probability"][PRESENT], float)
    other = max(
        (name for name in curves["probability"] if name != PRESENT), key=lambda n: max(curves["probability"][n])
    )
    x = across(mm)
    at = [picture.position_mm for picture in pictures]
    places, on_curve = [float(across(position)) for position in at], np.interp(at, mm, present)
    annotations = [
        Annotation(number, place, _down(probability), number_x)
        for number, (place, probability, number_x) in enumerate(zip(places, on_curve, spread(places), strict=True), 1)
    ]
    return Curve(
        _points(x, present), _points(x, np.array(curves["probability"][other], float)), other,
        [(float(across(tick)), f"{tick:g}") for tick in ticks(low, low + span)],
        AXIS.get(record["plane"], ""), annotations, _hovers(x, curves, present),
    )  # fmt: skip


def ticks(low: float, high: float) -> list[float]:
    """Round millimetres from low to high, at most MOST_TICKS of them."""
    steps = (factor * 10**power for power in count() for factor in (1, 2, 5))
    step = next(step for step in steps if (high - low) / step < MOST_TICKS)
    return (step * np.arange(np.ceil(low / step), np.floor(high / step) + 1) + 0.0).tolist()  # no minus before 0


def spread(places: Sequence[float], gap: float = MARK_GAP) -> list[float]:
    """Places in [0, 100], moved as little as needed to be at least `gap` apart, in the same order."""
    gap = min(gap, 100 / max(len(places), 1))
    order = np.argsort(places, kind="stable")
    moved = np.array(places, float)
    for before, after in zip(order, order[1:], strict=False):
        moved[after] = max(moved[after], moved[before] + gap)
    highest = 100.0
    for place in order[::-1]:
        moved[place] = highest = min(moved[place], highest)
        highest -= gap
    return moved.tolist()


def _hovers(x: np.ndarray, curves: dict, present: np.ndarray) -> list[Tooltip]:
    """Each window's stripe extends half way to its neighbours."""
    edges = np.concatenate([[0.0], (x[1:] + x[:-1]) / 2, [100.0]])
    rows = zip(edges, np.diff(edges), curves["slice"], curves["position_mm"], present, strict=False)
    return [Tooltip(float(left), float(width), *rest, float(p)) for left, width, *rest, p in rows]


def _points(x: np.ndarray, probability: np.ndarray) -> str:
    return " ".join(f"{a:.2f},{_down(b):.2f}" for a, b in zip(x, probability, strict=True))


def _down(probability: float) -> float:
    """Per cent from the top of the plot, where probability is 1."""
    return 100 * (1 - float(probability))
