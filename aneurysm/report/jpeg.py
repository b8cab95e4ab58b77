"""Pictures as JPEG data: URIs, at the best quality that fits the size limit of a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

QUALITIES = (88, 80, 70, 60, 50, 40, 30)
SHRINK = (1, 2, 4)  # only pure noise needs more than 1: heads fit at full size
NEARLY = 1.2  # the middle picture is tried first: if it exceeds its share by this factor, all will be too large


def encode_within(pictures: Sequence[np.ndarray], n_characters: int) -> list[str]:
    """The pictures, uint8 of one size, as data: URIs with at most `n_characters` in total.

    Raises ValueError if they do not fit at the lowest quality and size.
    """
    for shrink in SHRINK:
        smaller = [_shrunk(picture, shrink) for picture in pictures]
        for quality in QUALITIES:
            if len(data_uri(smaller[len(smaller) // 2], quality)) * len(smaller) > NEARLY * n_characters:
                continue
            found = [data_uri(picture, quality) for picture in smaller]
            if sum(map(len, found)) <= n_characters:
                return found
    raise ValueError(
        f"expected {len(pictures)} pictures to fit into {n_characters} characters, found more at any quality"
    )


def data_uri(picture: np.ndarray, quality: int) -> str:
    """A picture, uint8, grey or BGR, as a JPEG data: URI of quality 0 to 100."""
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode("ascii")


def _shrunk(picture: np.ndarray, times: int) -> np.ndarray:
    rows, columns = (max(1, side // times) for side in picture.shape[:2])
    return picture if times == 1 else cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
