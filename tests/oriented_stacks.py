"""Stacks of images in every orientation of the patient, with a bright spot at a known place."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tests.dicom_writer import AXIAL, CORONAL, SAGITTAL, voxel_positions, write_stack


def turned_by(orientation: tuple, degrees: tuple[float, float, float]) -> tuple:
    """The orientation after turns around the patient's three axes."""
    x, y, z = np.radians(degrees)
    around_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    around_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    around_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    turn = around_z @ around_y @ around_x
    return (*(turn @ orientation[:3]), *(turn @ orientation[3:]))


def flips(orientation: tuple) -> list[tuple]:
    """The orientation with rows, columns, both and neither reversed, and turned by 90 degrees."""
    a, b = np.array(orientation[:3]), np.array(orientation[3:])
    found = [(*(s * a), *(t * b)) for s, t in product((1, -1), repeat=2)]
    return [*found, (*-b, *a)]


SPACINGS = {"thick": (4.0, 0.9, 0.6), "thin": (1.2, 0.8, 1.1)}  # between slices, rows, columns: thin is re-sliced

SHAPES = {"thick": (12, 70, 110), "thin": (44, 70, 50)}

CASES = [
    pytest.param((orientation, kind), id=f"{name}{i}-{kind}")
    for name, plane in (
        ("axial", AXIAL),
        ("coronal", CORONAL),
        ("sagittal", SAGITTAL),
        ("oblique-axial", turned_by(AXIAL, (18, -9, 6))),
        ("oblique-coronal", turned_by(CORONAL, (-14, 7, 11))),
        ("oblique-sagittal", turned_by(SAGITTAL, (8, 12, -16))),
    )
    for kind in ("thick", "thin")
    for i, orientation in enumerate(flips(plane) if "oblique" not in name else [plane])
]


def centred(orientation: tuple, kind: str) -> tuple:
    """Position of the first voxel that puts the middle of the volume at (0, 0, 0)."""
    corners = voxel_positions(
        (2, 2, 2), (0, 0, 0), orientation, np.array(SPACINGS[kind]) * (np.array(SHAPES[kind]) - 1)
    )
    return tuple(-corners[1, 1, 1] / 2)


def write_spot(folder: Path, orientation: tuple, kind: str, centre: tuple, sigma_mm: float = 3.0) -> list[str]:
    """A stack around (0, 0, 0) with a round bright spot at `centre` (LPS, mm); returns the SOP UIDs."""
    first = centred(orientation, kind)
    where = voxel_positions(SHAPES[kind], first, orientation, SPACINGS[kind])
    distance2 = ((where - np.array(centre)) ** 2).sum(-1)
    volume = np.round(10000 * np.exp(-distance2 / (2 * sigma_mm**2))).astype(np.int16)
    return write_stack(folder, volume, orientation, SPACINGS[kind], first, Modality="MR")


@dataclass(frozen=True)
class Stack:
    folder: Path
    orientation: tuple
    kind: str
    uids: list[str]


SPOT = (9.0, -12.0, 8.0)  # left, front, up


def write_case(folder: Path, orientation: tuple, kind: str) -> Stack:
    """A stack in one of the orientations, with a spot at SPOT."""
    return Stack(folder, orientation, kind, write_spot(folder, orientation, kind, SPOT))


def centroid(image: np.ndarray) -> np.ndarray:
    """Centre of mass, one number an axis."""
    axes = range(image.ndim)
    sums = [image.sum(axis=tuple(a for a in axes if a != axis), dtype=np.float64) for axis in axes]
    return np.array([along @ np.arange(len(along)) / along.sum() for along in sums])
