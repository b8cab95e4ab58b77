"""Reads what `python -m volume3d.preprocess` has made of a series: volume, vessel mask, geometry."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from aneurysm.labels import LOCATIONS
from aneurysm.paths import DataPaths

# A float lies in [0, 1] if its bits, read as an unsigned integer, are at most those of 1.0.
_BITS = {np.dtype(np.float16): (np.uint16, 0x3C00), np.dtype(np.float32): (np.uint32, 0x3F800000)}


def volume_path(data_dir: Path, series_id: str) -> Path:
    """npy_volume/<uid>.npy; _mask.npy and .json lie beside it."""
    return DataPaths(data_dir).npy_volume / f"{series_id}.npy"


def read_volume(data_dir: Path, series_id: str) -> np.ndarray:
    """(Z, H, W) float16 or float32 in [0, 1], memory-mapped and read-only.

    Raises ValueError naming the file, what was expected and what was found, if it is missing, truncated, or holds
    something else.
    """
    path = volume_path(data_dir, series_id)
    volume = _load(path, tuple(_BITS))
    kind, one = _BITS[volume.dtype]
    if volume.view(kind).max() > one:  # 0.1 ms; comparing float16 takes far longer
        wrong = volume[volume.view(kind) > one]
        raise ValueError(f"{path}: expected values from 0 to 1, found {wrong[0]} and {len(wrong) - 1} more")
    _check_shape(path, volume.shape, data_dir, series_id)
    return volume


def read_vessels(data_dir: Path, series_id: str) -> np.ndarray | None:
    """(Z, H, W) uint8: 0, or 1 + index into LOCATIONS; None if the series has no vessel mask.

    Raises ValueError as read_volume.
    """
    path = volume_path(data_dir, f"{series_id}_mask")
    if not path.exists():
        return None
    mask = _load(path, (np.dtype(np.uint8),))
    if mask.max() > len(LOCATIONS):
        raise ValueError(f"{path}: expected values from 0 to {len(LOCATIONS)}, found {mask.max()}")
    _check_shape(path, mask.shape, data_dir, series_id)
    return mask


def read_geometry(data_dir: Path, series_id: str) -> dict:
    """The JSON description that make_volume.py writes; ValueError naming the file if it is missing or damaged."""
    path = volume_path(data_dir, series_id).with_name(f"{series_id}.json")
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: not there; has volume3d.preprocess run for this series?") from error
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found a damaged file ({error})") from error


def read_settings(data_dir: Path, series_ids: Iterable[str]) -> dict[str, Any] | None:
    """The settings (VolumeSettings as a dict) that all these volumes were made with; None if no JSON file has them.

    Raises ValueError naming two series whose volumes were made differently, or as read_geometry.
    """
    first, settings = "", None
    for series_id in series_ids:
        found = read_geometry(data_dir, series_id).get("settings")
        if not first:
            first, settings = series_id, found
        elif found != settings:
            raise ValueError(
                f"{DataPaths(data_dir).npy_volume}: expected volumes made with the same settings, found {settings} for "
                f"{first} and {found} for {series_id}; run volume3d.preprocess again"
            )
    return settings


def _load(path: Path, dtypes: tuple[np.dtype, ...]) -> np.ndarray:
    if not path.exists():
        raise ValueError(f"{path}: not there; has volume3d.preprocess run for this series?")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:  # numpy's messages do not name the file
        raise ValueError(f"{path}: expected a volume, found a damaged or cut file ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype not in dtypes or not array.size:
        found = f"{array.shape} {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{path}: expected (Z, H, W) {' or '.join(map(str, dtypes))}, found {found}")
    return array


def _check_shape(path: Path, shape: tuple[int, ...], data_dir: Path, series_id: str) -> None:
    """Compares the shape with the JSON file beside the volume, if there is one; raises ValueError if they differ."""
    if not path.with_name(f"{series_id}.json").exists():
        return
    expected = tuple(read_geometry(data_dir, series_id)["shape"])
    if shape != expected:
        raise ValueError(f"{path}: expected the shape {expected} of {series_id}.json, found {shape}")
