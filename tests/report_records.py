"""A hand-made record and hand-made pictures, as record_of and Predictor make them, for the tests of the pages."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from aneurysm.inference.pictures import Picture
from aneurysm.inference.slab import Slab
from aneurysm.labels import LABELS, LOCATIONS, PRESENT

HOSTILE = "</title></style><script>alert('x')</script><img src=http://evil.example/x onerror=\"alert(1)\">&amp;\u202e"
LONG_UID = "1.2.826.0.1.3680043.8.498." + "7" * 38
POSITION_MM = [-10.0, 0.0, 30.0]
SAID = [0.1, 0.9, 0.5]  # of Aneurysm Present, by window

# Distinct to two decimals: 0.81, 0.78, ... 0.45 for the locations and 0.93 for Aneurysm Present; 0.02, 0.03, ... 0.15.
PROBABILITIES = {label: round(0.81 - 0.03 * i, 2) for i, label in enumerate(LOCATIONS)} | {PRESENT: 0.93}
PREVALENCE = {label: round(0.02 + 0.01 * i, 2) for i, label in enumerate(LABELS)}


def make_record(series_uid: str = LONG_UID, **changes: Any) -> dict[str, Any]:
    """An axial CTA of three windows that was answered."""
    record = {
        "format": 1,
        "series_uid": series_uid,
        "place": f"/data/series/{series_uid}",
        "files": "3c" * 32,
        "failure": "",
        "probabilities": PROBABILITIES,
        "prevalence": PREVALENCE,
        "type": "CTA",
        "plane": "axial",
        "warnings": ["pixel spacing missing: taken as 0.5 mm"],
        "left_out": ["mirrored views"],
        "geometry": {
            "images": 28, "rows": 512, "columns": 448, "spacing_mm": [2.5, 0.4, 0.4], "orientation": [1, 0, 0, 0, 1, 0],
            "first_position_mm": [-100, -90, -10], "last_position_mm": [-100, -90, 57.5], "resliced": False,
        },
        "curves": {
            "slice": [0, 4, 16], "position_mm": POSITION_MM, "sop_instance_uid": ["1.1", "1.5", "1.17"],
            "frame": [0, 0, 0], "probability": {label: [0.02, 0.1, 0.05] for label in LABELS} | {PRESENT: SAID},
        },
        "findings": [make_finding(location, 0.9 - 0.05 * i) for i, location in enumerate(LOCATIONS)],
        "seconds": {"headers": 0.3, "decode": 1.25, "encode": 14.0, "sequence": 0.04},
        "bundle": {"sha256": "9f" * 32, "commit": "e650cca", "calibration": "not calibrated"},
    }  # fmt: skip
    return record | changes


def make_finding(location: str, probability: float) -> dict[str, Any]:
    return {
        "location": location, "probability": probability, "slice": 4, "position_mm": 0.0,
        "sop_instance_uid": LONG_UID + "1", "file": f"{LONG_UID}1.dcm", "frame": 0, "x": 201.5, "y": 143.25,
        "patient_mm": [-12.5, -30.25, 0.0],
    }  # fmt: skip


def make_failed(series_uid: str = "1.2.3", **changes: Any) -> dict[str, Any]:
    """The record of a folder that could not be read."""
    nothing = dict.fromkeys(("probabilities", "type", "plane", "geometry", "curves"))
    messages = {"failure": "no image found", "findings": [], "warnings": [], "left_out": [], "seconds": {}}
    return make_record(series_uid) | nothing | messages | changes


def make_pictures() -> list[Picture]:
    """Of a finding in each of the three windows, the strongest first; the heatmap is a cone around (300, 150)."""
    y, x = np.mgrid[:512, :512]
    across, down = (x // 2).astype(np.uint8), (y // 2).astype(np.uint8)
    first = Picture(
        slice=4, position_mm=0.0, probability=0.9, location="Basilar Tip", slab=make_slab(across, 0, 10, 4),
        heatmap=cone(300, 150, 0.8, 40), x=300.0, y=150.0, pixel_mm=0.5, sop_uid=LONG_UID + "1", frame=0,
        file=f"{LONG_UID}1.dcm", column=201.25, row=99.0,
    )  # fmt: skip
    second = replace(first, slice=16, position_mm=30.0, probability=0.5, slab=make_slab(down, 10, 22, 16))
    third = replace(
        first, slice=0, position_mm=-10.0, probability=0.1, heatmap=cone(300, 150, 0.04, 40),
        slab=make_slab(across, 0, 6, 0),
    )  # fmt: skip
    return [first, second, third]


def make_slab(image: np.ndarray, first: int, last: int, number: int) -> Slab:
    """Slices `first` to `last`: slice `number` is the image, the others are shifted by a column each, 2.5 mm apart."""
    numbers = np.arange(first, last + 1)
    images = np.stack([np.roll(image, other - number, axis=1) for other in numbers])
    return Slab(numbers, POSITION_MM[0] + 2.5 * numbers, images, number - first)


def cone(x: float, y: float, height: float, radius: float) -> np.ndarray:
    """(512, 512) float32, `height` at (x, y), falling evenly to 0 at `radius` pixels."""
    rows, columns = np.mgrid[:512, :512]
    return (height * np.clip(1 - np.hypot(columns - x, rows - y) / radius, 0, 1)).astype(np.float32)


def decoded(source: str) -> np.ndarray:
    """(rows, columns) int of a picture on a page."""
    head, data = source.split(",")
    assert head == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_GRAYSCALE).astype(int)
