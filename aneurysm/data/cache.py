"""The cache of preprocessed series: slices (512, 512) float16 in [0, 1] and vessel masks, read a few at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from aneurysm.config import from_saved
from aneurysm.data.mapping import SIZE, Mapping
from aneurysm.data.slices import CacheSettings
from aneurysm.paths import DataPaths

SLICE_BYTES = SIZE * SIZE * 2


class Cache:
    """Reads cached series below one data folder; safe to use from many processes and threads."""

    def __init__(self, data_dir: str | Path):
        self.paths = DataPaths(Path(data_dir))
        self._described = lru_cache(maxsize=64)(self._describe)
        self._laid_out = lru_cache(maxsize=None)(self._layout)
        self._positions = lru_cache(maxsize=None)(lambda uid: np.array(self._described(uid)["position_mm"]))
        self._vessels_laid_out = lru_cache(maxsize=None)(self._vessel_layout)

    def __reduce__(self) -> tuple:
        """What goes to a process that does not share this one's memory: the folder."""
        return Cache, (self.paths.root,)

    def series_uids(self) -> list[str]:
        """All series in the cache, sorted."""
        whole = {path.stem for path in self.paths.npy_sequence.glob("*.npy")}
        single = {path.name for path in self.paths.npy_slice.glob("[!.]*") if path.is_dir()}
        return sorted(whole | single)

    def n_slices(self, series_uid: str) -> int:
        """Number of slices of a series; ValueError if it is not in the cache or damaged."""
        return self._laid_out(series_uid)[0]

    def window(self, series_uid: str, indices: Sequence[int]) -> np.ndarray:
        """(len(indices), 512, 512) float16 in [0, 1]; neighbouring indices cost one read.

        Raises ValueError naming the file where the series is not in the cache or a file is damaged, IndexError where
        a slice does not exist.
        """
        n_slices, first_byte = self._laid_out(series_uid)
        indices = np.asarray(indices, int)
        if indices.size and (indices.min() < 0 or indices.max() >= n_slices):
            raise IndexError(f"series {series_uid}: slices 0 to {n_slices - 1} expected, {indices.tolist()} asked for")
        out = np.empty((len(indices), SIZE, SIZE), np.float16)
        if first_byte is None:
            for place, index in enumerate(indices):
                out[place] = np.load(self._slice_path(series_uid, index))
            return out
        path = self.paths.npy_sequence / f"{series_uid}.npy"
        with open(path, "rb", buffering=0) as file:
            for start, stop in _runs(indices):
                wanted = memoryview(out[start:stop]).cast("B")
                if os.preadv(file.fileno(), [wanted], first_byte + int(indices[start]) * SLICE_BYTES) != len(wanted):
                    raise ValueError(f"{path}: expected {n_slices} slices, the file is too short")
        return out

    def vessels(self, series_uid: str, index: int) -> np.ndarray | None:
        """(512, 512) uint8 of one slice: 0, or 1 + index into LOCATIONS; None where the series has no vessel mask.

        Raises ValueError naming the file where it is damaged, IndexError where the slice does not exist.
        """
        laid_out = self._vessels_laid_out(series_uid)
        if laid_out is None:
            return None
        n_slices, first_byte = laid_out
        if not 0 <= index < n_slices:
            raise IndexError(f"series {series_uid}: slices 0 to {n_slices - 1} expected, {index} asked for")
        out = np.empty((SIZE, SIZE), np.uint8)
        path = self._vessel_path(series_uid)
        with open(path, "rb", buffering=0) as file:
            n_read = os.preadv(file.fileno(), [memoryview(out).cast("B")], first_byte + int(index) * out.nbytes)
        if n_read != out.nbytes:
            raise ValueError(f"{path}: expected {n_slices} slices, the file is too short")
        return out

    def position_mm(self, series_uid: str) -> np.ndarray:
        """(slices,) position of each slice along the slice axis, increasing, in patient coordinates."""
        return self._positions(series_uid)

    def mapping(self, series_uid: str) -> Mapping:
        """The way from original images to this cache and back."""
        return Mapping.from_dict(self._described(series_uid)["mapping"])

    def fingerprint(self, series_uid: str) -> str:
        """Changes when the series' DICOM files or the settings of the cache have changed."""
        return self._described(series_uid)["fingerprint"]

    def settings(self, series_uids: Iterable[str]) -> CacheSettings | None:
        """What all these series were cached with; None where none of them says it (caches made before it was kept).

        Raises ValueError where they differ.
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
        path = self.paths.npy_sequence / f"{series_uid}.json"
        if not path.exists():
            raise ValueError(f"{path}: not there; has preprocess_data.py run for this series?")
        return json.loads(path.read_text())

    def _layout(self, series_uid: str) -> tuple[int, int | None]:
        """Number of slices, and the byte in the series file where they begin (None: only slice files exist)."""
        path = self.paths.npy_sequence / f"{series_uid}.npy"
        if not path.exists():
            n_slices = sum(1 for _ in (self.paths.npy_slice / series_uid).glob("*.npy"))
            if n_slices == 0:
                raise ValueError(f"{path}: no such series in the cache")
            return n_slices, None
        return _read_header(path, np.float16)

    def _vessel_layout(self, series_uid: str) -> tuple[int, int] | None:
        """As `_layout`, for the series' vessel mask; None where it has none."""
        path = self._vessel_path(series_uid)
        if not path.exists():
            return None
        found, expected = _read_header(path, np.uint8), self.n_slices(series_uid)
        if found[0] != expected:
            raise ValueError(f"{path}: expected {expected} slices as in the series, found {found[0]}")
        return found

    def _vessel_path(self, series_uid: str) -> Path:
        return self.paths.npy_vessels / f"{series_uid}.npy"

    def _slice_path(self, series_uid: str, index: int) -> Path:
        return self.paths.npy_slice / series_uid / f"{index:04d}.npy"


def open_cache(data_dir: str | Path) -> Cache:
    """The cache below `data_dir`, as preprocess_data.py left it."""
    return Cache(data_dir)


def _read_header(path: Path, dtype: type) -> tuple[int, int]:
    """Number of slices in an npy file, and the byte where they begin; ValueError where it holds something else."""
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, found = np.lib.format.read_array_header_1_0(file)
        if shape[1:] != (SIZE, SIZE) or found != dtype:
            raise ValueError(f"{path}: expected (slices, {SIZE}, {SIZE}) {np.dtype(dtype)}, found {shape} {found}")
        return shape[0], file.tell()


def _runs(indices: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and stop of each stretch of `indices` that counts up by one."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    edges = [0, *breaks.tolist(), len(indices)]
    yield from ((a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a)
