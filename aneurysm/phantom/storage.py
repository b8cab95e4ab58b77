"""Converts images in physical values to stored integers and rescale tags, in the ways of real scanners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.phantom.quirks import Quirks

# CT: offset added to HU before storing, the header's tags, and the value outside the circular field of view.
_CT = {
    "hu+1024": (1024, {"RescaleIntercept": -1024, "RescaleSlope": 1, "RescaleType": "HU"}, None),
    "hu": (0, {"RescaleIntercept": 0, "RescaleSlope": 1, "RescaleType": "HU"}, None),
    "hu padded": (0, {}, -2000),
    "hu+8192": (8192, {"RescaleIntercept": -8192, "RescaleSlope": 1, "RescaleType": "HU"}, None),
    "header lies": (0, {"RescaleIntercept": -1024, "RescaleSlope": 1}, -2000),
}


@dataclass(frozen=True)
class Stored:
    """Integers (slices, rows, cols), little-endian, and the tags needed to read them."""

    pixels: np.ndarray
    tags: dict


@dataclass(frozen=True)
class Scale:
    """stored = value * gain + offset; the same for all files of a series, scouts included."""

    gain: float
    offset: float
    padding: int | None
    tags: dict


def draw_scale(rng: np.random.Generator, image: np.ndarray, quirks: Quirks) -> Scale:
    """Chooses how a series is stored; `image` (slices, rows, cols) in HU, or MR signal of arbitrary gain."""
    padded, gain, slope = rng.random() < 0.6, float(np.exp(rng.normal(0.3, 0.8))), float(rng.uniform(0.4, 6))
    if quirks.storage in _CT:
        offset, tags, padding = _CT[quirks.storage]
        return Scale(1.0, offset, padding if quirks.storage == "hu padded" or padded else None, tags)
    top = 4095 if quirks.bits == 12 else 32767
    gain = 1.0 if quirks.clean else min(gain, 0.95 * top / max(float(image.max()), 1.0))
    tags = {
        "raw": {},
        "unit": {"RescaleIntercept": 0, "RescaleSlope": 1},
        "slope": {"RescaleIntercept": 0, "RescaleSlope": round(slope, 5)},
    }[quirks.storage]
    return Scale(gain, 0.0, None, tags)


def store(image: np.ndarray, scale: Scale, quirks: Quirks) -> Stored:
    """The integers to write; values that do not fit are clipped, as scanners do."""
    signed = quirks.bits == 16
    low, high = (-32768, 32767) if signed else (0, 4095)
    pixels = np.empty(image.shape, "<i2" if signed else "<u2")
    outside = _outside_circle(*image.shape[1:]) if scale.padding is not None else None
    for number, plane in enumerate(image):  # slice by slice: a whole CTA as floats would take gigabytes
        values = np.round(plane * np.float32(scale.gain) + np.float32(scale.offset))
        if outside is not None:
            values[outside] = scale.padding
        pixels[number] = np.clip(values, low, high)
    if quirks.inverted:
        pixels = int(pixels.max()) - pixels
    tags = {
        "BitsAllocated": 16,
        "BitsStored": quirks.bits,
        "HighBit": quirks.bits - 1,
        "PixelRepresentation": int(signed),
        "PhotometricInterpretation": "MONOCHROME1" if quirks.inverted else "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": image.shape[1],
        "Columns": image.shape[2],
    }
    return Stored(pixels, tags | scale.tags)


def _outside_circle(rows: int, cols: int) -> np.ndarray:
    """(rows, cols) True outside the image's inscribed circle, where CT reconstructs nothing."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in (rows, cols))
    return np.hypot(y[:, None] / (rows / 2), x[None] / (cols / 2)) > 1
