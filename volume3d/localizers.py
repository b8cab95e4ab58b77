"""Localizers of the competition in voxels of the volumes: targets for cells where there is no aneurysm mask."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aneurysm.dicom.mapping import Mapping
from aneurysm.folds.localizers import read_localizers
from aneurysm.labels import LOCATIONS
from volume3d.volume import read_geometry, volume_path


@dataclass(frozen=True)
class LocalizerPoints:
    """Localizers of one series: voxels (n, 3) fractional slice, row, column; locations (n,) index into LOCATIONS."""

    voxels: np.ndarray
    locations: np.ndarray


def localizer_voxels(
    path: Path, data_dir: Path, series_ids: Collection[str]
) -> tuple[dict[str, LocalizerPoints], list[str]]:
    """The localizers of train_localizers.csv by series, and why others have no place in a volume."""
    table, placed, errors = read_localizers(path), {}, []
    for uid, rows in table[table.SeriesInstanceUID.isin(series_ids)].groupby("SeriesInstanceUID"):
        if not volume_path(data_dir, uid).exists():
            errors += [f"{uid}: no volume"] * len(rows)
            continue
        geometry = read_geometry(data_dir, uid)
        voxels, locations = [], []
        for row in rows.itertuples():
            try:
                voxels.append(voxel_of(geometry, row.x, row.y, row.SOPInstanceUID, row.frame))
                locations.append(LOCATIONS.index(row.location))
            except ValueError as error:
                errors.append(f"{uid}: {error}")
        if voxels:
            placed[uid] = LocalizerPoints(np.array(voxels), np.array(locations))
    return placed, errors


def voxel_of(geometry: dict, x: float, y: float, sop_uid: str, frame: int | None = None) -> np.ndarray:
    """(3,) voxel of an original pixel, from the JSON file beside the volume.

    Raises ValueError if that file has no source, the image is missing, or the pixel lies outside the image or volume.
    """
    if "source" not in geometry:
        raise ValueError(
            f"{geometry['SeriesInstanceUID']}.json: expected source, found none; run volume3d.preprocess again"
        )
    mapping = Mapping.from_dict({name: value for name, value in geometry["source"].items() if name != "voxels"})
    index = mapping.source_index(sop_uid, None if pd.isna(frame) else int(frame))
    source = np.array([index, y, x])
    if ((source < -0.5) | (source > np.array(mapping.shape) - 0.5)).any():
        raise ValueError(f"({x}, {y}) lies outside the image of {mapping.shape[2]} columns and {mapping.shape[1]} rows")
    along = zip(source[list(mapping.order)], geometry["source"]["voxels"], strict=True)
    voxel = np.array([np.interp(pixel, np.arange(len(own)), own) for pixel, own in along])
    if ((voxel < -0.5) | (voxel > np.array(geometry["shape"]) - 0.5)).any():
        raise ValueError(f"({x}, {y}) of {sop_uid} lies outside the volume")
    return voxel
