"""A thumbnail of the first picture of a series, for the index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from aneurysm.report.jpeg import data_uri

if TYPE_CHECKING:
    from aneurysm.inference.pictures import Picture

SIDE = 144  # pixels of the thumbnail; the page shows it half as large
SHOWN = 128  # pixels of the slice in each direction, around the peak
QUALITY = 75
RADIUS, RING_BGR = 26, (255, 227, 111)


def thumbnail(pictures: Sequence[Picture]) -> str | None:
    """A data: URI of the area around the first picture's peak, with a ring around the peak; of the whole slice if
    there is no peak. None without pictures."""
    if not pictures:
        return None
    first = pictures[0]
    if not np.isfinite([first.x, first.y]).all():
        return data_uri(cv2.resize(first.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), QUALITY)
    half = SHOWN // 2
    x, y = round(first.x) + half, round(first.y) + half  # in the padded image: the peak stays in the middle
    part = np.pad(first.image, half)[y - half : y + half, x - half : x + half]
    colour = cv2.cvtColor(cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    cv2.circle(colour, (SIDE // 2, SIDE // 2), RADIUS, RING_BGR, thickness=2, lineType=cv2.LINE_AA)
    return data_uri(colour, QUALITY)
