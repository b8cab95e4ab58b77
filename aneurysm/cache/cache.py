"""Reads the cache of preprocessed series: slices (512, 512) float16 in [0, 1] and vessel masks, a few at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from aneurysm.cache.config import CacheSettings
from aneurysm.cache.description import read_description
from aneurysm.cache.storage import ENDINGS, REMEDY, SliceFile, find_slices_file, open_slices
from aneurysm.config import from_saved
from aneurysm.dicom.mapping import SIZE, Mapping
from aneurysm.paths import DataPaths

SLICE_BYTES = SIZE * SIZE * 2


class Cache:
    """Reads cached series; safe to use from many processes and threads."""

    def __init__(self, data_dir: str | Path, cache_dir: Path | None = None):
        self.paths = DataPaths(Path(data_dir), cache_dir)
        self._described = lru_cache(maxsize=64)(self._describe)
        self._stored = lru_cache(maxsize=None)(self._open)
        self._positions = lru_cache(maxsize=None)(lambda uid: np.array(self._described(uid)["position_mm"]))
        self._stored_vessels = lru_cache(maxsize=None)(self._open_vessels)

    def __reduce__(self) -> tuple:
        """Pickles the two folders only."""
        return Cache, (self.paths.root, self.paths.cache_dir)

    def series_uids(self) -> list[str]:
        """All series in the cache, sorted."""
        endings = (f"[!.]*{ending}" for ending in ENDINGS.values())
        whole = {path.stem for ending in endings for path in self.paths.npy_sequence.glob(ending)}
        single = {path.name for path in self.paths.npy_slice.glob("[!.]*") if path.is_dir()}
        return sorted(whole | single)

    def n_slices(self, series_uid: str) -> int:
        """Number of slices of a series; ValueError if the series is not in the cache or damaged."""
        stored = self._stored(series_uid)
        return stored if isinstance(stored, int) else stored.n_slices

    def window(self, series_uid: str, indices: Sequence[int]) -> np.ndarray:
        """(len(indices), 512, 512) float16 in [0, 1]; consecutive indices cost one read.

        Raises ValueError naming the file if the series is not in the cache or a file is damaged, IndexError if a slice
        does not exist.
        """
        stored, n_slices = self._stored(series_uid), self.n_slices(series_uid)
        indices = np.asarray(indices, int)
        if indices.size and (indices.min() < 0 or indices.max() >= n_slices):
            raise IndexError(f"series {series_uid}: expected slices 0 to {n_slices - 1}, found {indices.tolist()}")
        out = np.empty((len(indices), SIZE, SIZE), np.float16)
        if isinstance(stored, int):
            for place, index in enumerate(indices):
                out[place] = _load(self.paths.npy_slice / series_uid / f"{index:04d}.npy")
            return out
        for start, stop in _runs(indices):
            stored.read(int(indices[start]), out[start:stop])
        return out

    def vessels(self, series_uid: str, index: int) -> np.ndarray | None:
        """(512, 512) uint8 of one slice: 0, or 1 + index into LOCATIONS; None if the series has no vessel mask.

        Raises ValueError naming the file if it is damaged, IndexError if the slice does not exist.
        """
        stored = self._stored_vessels(series_uid)
        if stored is None:
            return None
        if not 0 <= index < stored.n_slices:
            raise IndexError(f"series {series_uid}: expected slices 0 to {stored.n_slices - 1}, found {index}")
        out = np.empty((1, SIZE, SIZE), np.uint8)
        stored.read(int(index), out)
        return out[0]

    def position_mm(self, series_uid: str) -> np.ndarray:
        """(slices,) position of each slice along the slice axis, increasing, in patient coordinates."""
        return self._positions(series_uid)

    def mapping(self, series_uid: str) -> Mapping:
        """The mapping between original images and this cache."""
        return Mapping.from_dict(self._described(series_uid)["mapping"])

    def fingerprint(self, series_uid: str) -> str:
        """A hash of the series' DICOM files, vessel mask and cache settings (see fingerprint_of)."""
        return self._described(series_uid)["fingerprint"]

    def settings(self, series_uids: Iterable[str]) -> CacheSettings | None:
        """The settings that all these series were cached with; None if none has them (older caches).

        Raises ValueError if they differ.
        """
        found = {json.dumps(self._described(uid).get("settings")) for uid in series_uids} - {"null"}
        if len(found) > 1:
            raise ValueError(
                f"{self.paths.npy_sequence}: expected one setting for all series, found {', '.join(sorted(found))}; "
                "preprocess_data.py brings all to one"
            )
        return from_saved(CacheSettings, json.loads(found.pop())) if found else None

    def meta(self, series_uid: str) -> dict:
        """The row of train_meta.csv."""
        return self._described(series_uid)["meta"]

    def _describe(self, series_uid: str) -> dict:
        return read_description(self.paths.npy_sequence / f"{series_uid}.json")

    def _open(self, series_uid: str) -> SliceFile | int:
        """The series file; if only slice files exist, their number."""
        path = find_slices_file(self.paths.npy_sequence, series_uid)
        if path:
            return open_slices(path, np.float16)
        n_slices = sum(1 for _ in (self.paths.npy_slice / series_uid).glob("*.npy"))
        if n_slices == 0:
            raise ValueError(f"{self.paths.npy_sequence / series_uid}.npy: no such series in the cache")
        return n_slices

    def _open_vessels(self, series_uid: str) -> SliceFile | None:
        """The vessel mask of a series; None if it has none."""
        path = find_slices_file(self.paths.npy_vessels, series_uid)
        if path is None:
            return None
        found, expected = open_slices(path, np.uint8), self.n_slices(series_uid)
        if found.n_slices != expected:
            raise ValueError(f"{path}: expected {expected} slices as in the series, found {found.n_slices}; {REMEDY}")
        return found


def open_cache(data_dir: str | Path, cache_dir: Path | None = None) -> Cache:
    """The cache that preprocess_data.py wrote below `cache_dir`, or else `data_dir`."""
    return Cache(data_dir, cache_dir)


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected a slice, found damage ({error}); delete it, and {REMEDY}") from error


def _runs(indices: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and stop of each run of consecutive `indices`."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    edges = [0, *breaks.tolist(), len(indices)]
    yield from ((a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a)
