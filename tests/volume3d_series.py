"""Small data sets for the second system: series of known values in the patient, and entries of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aneurysm.folds.manifest import Entry
from aneurysm.labels import LABELS
from tests.dicom_writer import voxel_positions, write_stack
from volume3d.config import VolumeSettings
from volume3d.make_volume import make_volume
from volume3d.volume import read_geometry, read_volume


def entry(series_id: str, labels: Sequence[float] = (0,) * 14, **output: object) -> Entry:
    """An entry of a manifest about which nothing special is known; `labels` in the order of LABELS."""
    assert len(labels) == len(LABELS)
    known = Entry(series_id, "CT", "CTA", series_id, None, None, None, f"series/{series_id}", None, np.float32(labels))
    return replace(known, **output)


def write_field(
    folder: Path,
    values: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int, int],
    orientation: Sequence[float],
    spacing: Sequence[float],
    first: Sequence[float] = (0.0, 0.0, 0.0),
    along_mm: Sequence[float] | None = None,
    **tags: object,
) -> np.ndarray:
    """A CT stack whose pixels are `values` of their places, (..., 3) LPS millimetres; returns these places.

    `along_mm` places the images along their normal, instead of evenly.
    """
    positions = voxel_positions(shape, first, orientation, spacing)
    normal = np.cross(orientation[:3], orientation[3:])
    if along_mm is not None:
        positions += ((np.array(along_mm) - spacing[0] * np.arange(shape[0]))[:, None] * normal)[:, None, None]

    def place(i: int) -> dict:
        return {"ImagePositionPatient": [f"{v:.6f}" for v in positions[i, 0, 0]]}

    write_stack(folder, values(positions).astype(np.int16), orientation, spacing, each=place, **tags)
    return positions


def made(data_dir: Path, series_id: str = "a", mask: str | None = None, **settings: object) -> tuple[np.ndarray, dict]:
    """Volume and geometry of a series below `data_dir`, made anew if necessary."""
    outcome = make_volume(data_dir, entry(series_id, segmentation_path=mask), VolumeSettings(**settings))
    assert outcome.kind == "", outcome.message
    return read_volume(data_dir, series_id), read_geometry(data_dir, series_id)


def places_mm(geometry: dict) -> np.ndarray:
    """(Z, H, W, 3) LPS millimetres of every voxel, by what the JSON says."""
    index = np.stack(np.meshgrid(*map(np.arange, geometry["shape"]), indexing="ij"), axis=-1)
    return np.array(geometry["origin"]) + index * geometry["spacing_mm"] @ np.array(geometry["axes"])
