"""From stored values to physical units, and from those to [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.data.frames import Frame

# What stored values of CT are known to be shifted by: Hounsfield units, + 1024, + 8192.
HU_SHIFTS = (0, 1024, 8192)
AIR_HU, SOFT_HU = (-1150, -880), (-60, 140)
LEAST_SOFT = 0.05  # share of soft tissue in any head; bone of one density fills less
MR_PERCENTILES = (0.5, 99.9)


@dataclass(frozen=True)
class Window:
    """Physical values that become 0 and 1; what lies outside is clipped."""

    low: float
    high: float


def header_rescale(frame: Frame) -> tuple[float, float]:
    """Slope and intercept by the header, negated for inverted images; 1 and 0 where it has none that can be used."""
    slope = frame.slope if frame.slope not in (None, 0.0) and abs(frame.slope) < 1e6 else 1.0
    intercept = frame.intercept if frame.intercept is not None and abs(frame.intercept) < 1e6 else 0.0
    return (-slope, -intercept) if frame.storage.inverted else (slope, intercept)


def hounsfield_shift(values: np.ndarray, intercept: float) -> float:
    """What has to be added to `values`, Hounsfield units by the header, to make them so; 0 where the header is right.

    A head has air around it and soft tissue inside. The shift that puts many pixels into both ranges is the true
    one; the header is overruled only where it fails that test clearly and so much soft tissue is found that it
    cannot be bone. The smallest value, often padding, is left out. `intercept` is the header's: the known wrong ones
    are off by a difference of two entries of HU_SHIFTS.
    """
    values = values[values > values.min()]
    if values.size == 0:
        return 0.0
    shifts = sorted({-known - intercept for known in HU_SHIFTS} | {0.0}, key=abs)
    soft = [_share(values + shift, SOFT_HU) for shift in shifts]
    scores = [_share(values + shift, AIR_HU) * share for shift, share in zip(shifts, soft, strict=True)]
    best = int(np.argmax(scores))
    clear = soft[best] > LEAST_SOFT and scores[best] > 1e-3 and scores[0] < 0.1 * scores[best]
    return float(shifts[best]) if clear else 0.0


def _share(values: np.ndarray, span: tuple[float, float]) -> float:
    return float(np.mean((values >= span[0]) & (values <= span[1])))


def mr_window(values: np.ndarray, head: np.ndarray) -> Window:
    """From the darkest pixels of the images to the brightest vessels of the head, by robust percentiles.

    Both follow any gain and offset of the scanner, so that the result in [0, 1] does not change with them. `head`
    is a mask of the shape of `values`; where it is empty all pixels count.
    """
    low = np.percentile(values, MR_PERCENTILES[0])
    high = np.percentile(values[head] if head.any() else values, MR_PERCENTILES[1])
    return Window(float(low), float(high) if high > low else float(low) + 1.0)
