"""Converts stored values to physical units, and these to [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aneurysm.dicom.frames import Frame

MR_PERCENTILES = (0.5, 99.9)


@dataclass(frozen=True)
class Window:
    """Physical values that become 0 and 1; values outside are clipped."""

    low: float
    high: float


def header_rescale(frame: Frame) -> tuple[float, float]:
    """Slope and intercept of the header, negated for inverted images; 1 and 0 if missing or unusable."""
    return header_rescales([frame])[0][0]


def header_rescales(frames: Sequence[Frame]) -> tuple[list[tuple[float, float]], str]:
    """The same for each frame of a series, and a warning, or "": values missing in some frames are taken from the
    others if these agree."""
    found = [_usable(frame) for frame in frames]
    fallback, texts = [1.0, 0.0], []
    for i, name in enumerate(("slope", "intercept")):
        present = {own[i] for own in found} - {None}
        missing = [frame.name for frame, own in zip(frames, found, strict=True) if own[i] is None]
        if present and missing:
            fallback[i] = next(iter(present)) if len(present) == 1 else fallback[i]
            shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            texts.append(
                f"rescale {name} missing in {len(missing)} of {len(frames)} images ({shown}): taken as {fallback[i]:g}"
            )
    scales = [
        [default if value is None else value for value, default in zip(own, fallback, strict=True)] for own in found
    ]
    scales = [
        (-slope, -intercept) if frame.storage.inverted else (slope, intercept)
        for frame, (slope, intercept) in zip(frames, scales, strict=True)
    ]
    return scales, "; ".join(texts)


def _usable(frame: Frame) -> tuple[float | None, float | None]:
    slope = frame.slope if frame.slope is not None and 1e-9 < abs(frame.slope) < 1e6 else None
    return slope, frame.intercept if frame.intercept is not None and abs(frame.intercept) < 1e6 else None


def mr_window(values: np.ndarray, head: np.ndarray) -> Window:
    """The window from the darkest pixels of the images to the brightest vessels of the head, by robust percentiles.

    Both limits scale with gain and offset of the scanner, so that the result in [0, 1] does not depend on them. `head`
    is a mask of the shape of `values`; if it is empty, all pixels are used.
    """
    low = np.percentile(values, MR_PERCENTILES[0])
    high = np.percentile(values[head] if head.any() else values, MR_PERCENTILES[1])
    return Window(float(low), float(high) if high > low else float(low) + 1.0)
