"""Two formats for files of cached slices: plain npy, or each slice compressed separately; a window costs one read.

<name>.npy     readable by numpy.load: (slices, 512, 512)
<name>.blosc2  the slices one after another, each compressed by Blosc2 (bytes shuffled, then zstd); an index with the
               end and CRC-32 of each slice; a footer with type, number of slices and the CRC-32 of the index
Blosc2's own file format has no checksum and hides the reason when a disk refuses a write.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from io import BufferedWriter
from pathlib import Path
from types import ModuleType

import numpy as np

from aneurysm.cache.config import Storage
from aneurysm.dicom.mapping import SIZE

try:
    from zlib_ng import zlib_ng as zlib
except ImportError:  # same checksums, four times slower
    import zlib

ENDINGS: dict[Storage, str] = {"float16": ".npy", "blosc2": ".blosc2"}
REMEDY = "preprocess_data.py --verify makes it anew"

_INDEX = np.dtype([("end", "<u8"), ("crc32", "<u4")])
_FOOTER = struct.Struct("<8s4sII")  # _MAGIC, type, number of slices, CRC-32 of the index
_MAGIC = b"slices\r\n"


@dataclass(frozen=True)
class SliceFile:
    """A file of slices with the byte offsets of each slice, read from its header or index.

    n_slices  number of slices
    dtype     float16 or uint8
    edges     (n_slices + 1,) byte where each slice begins, and where the last one ends
    crc32     (n_slices,) CRC-32 of the compressed bytes of each slice; None if uncompressed
    """

    path: Path
    n_slices: int
    dtype: np.dtype
    edges: np.ndarray
    crc32: np.ndarray | None

    def read(self, first: int, out: np.ndarray) -> None:
        """Fills `out` (n, 512, 512) with the slices from `first` on; ValueError naming the file if it is damaged."""
        begin, end = int(self.edges[first]), int(self.edges[first + len(out)])
        with open(self.path, "rb", buffering=0) as file:
            if self.crc32 is None:
                n_read = os.preadv(file.fileno(), [memoryview(out).cast("B")], begin)
            else:
                packed = os.pread(file.fileno(), end - begin, begin)
                n_read = len(packed)
        if n_read != end - begin:
            raise ValueError(f"{self.path}: expected {self.n_slices} slices, the file is too short; {REMEDY}")
        if self.crc32 is not None:
            self._decompress(first, memoryview(packed), out)

    def _decompress(self, first: int, packed: memoryview, out: np.ndarray) -> None:
        blosc2 = _blosc2()
        edges = (self.edges[first : first + len(out) + 1] - self.edges[first]).tolist()
        for k, image in enumerate(out):
            chunk = packed[edges[k] : edges[k + 1]]
            # Blosc2 does not check its input: a wrong chunk would be written past the end of the image.
            if zlib.crc32(chunk) != self.crc32[first + k] or blosc2.get_cbuffer_sizes(chunk)[0] != image.nbytes:
                raise ValueError(f"{self.path}: expected slice {first + k} as it was written, found damage; {REMEDY}")
            blosc2.decompress2(chunk, dst=image, nthreads=1)


def find_slices_file(folder: Path, name: str) -> Path | None:
    """The file of slices `name` in a folder, in either format; None if there is none."""
    return next((path for path in (folder / f"{name}{ending}" for ending in ENDINGS.values()) if path.exists()), None)


def open_slices(path: Path, dtype: type) -> SliceFile:
    """Opens a file of slices; ValueError naming the file if its header or index is damaged or of another dtype."""
    try:
        return (_open_blosc2 if path.suffix == ENDINGS["blosc2"] else _open_npy)(path, np.dtype(dtype))
    except OSError:
        raise
    except Exception as error:  # numpy raises many kinds of errors for a damaged header
        found = f"{error}" if str(path) in str(error) else f"{path}: expected slices, found damage ({error})"
        raise ValueError(f"{found}; {REMEDY}") from error


def write_slices(path: Path, storage: Storage, dtype: type, n_slices: int, images: Iterable[np.ndarray]) -> int:
    """Writes (512, 512) images of one dtype one by one, without collecting them; returns the CRC-32 of the file.

    `path` may have any name. Raises OSError if writing fails.
    """
    with open(path, "wb") as file:
        out = _Summed(file)
        if storage == "blosc2":
            _write_blosc2(out, np.dtype(dtype), images)
        else:
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (n_slices, SIZE, SIZE)}
            np.lib.format.write_array_header_1_0(out, header)
            for image in images:
                out.write(memoryview(image).cast("B"))
        return out.crc32


def write_npy(path: Path, array: np.ndarray) -> None:
    """Writes one array as np.save does, whose OSError would not reveal a full disk."""
    array = np.ascontiguousarray(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(memoryview(array).cast("B"))


def compressed(image: np.ndarray) -> bytes:
    """A slice compressed as in a .blosc2 file."""
    # Slices of phantoms shrink to 36 % with byte shuffle, to 41 % with bit shuffle; higher levels gain 1 %.
    blosc2 = _blosc2()
    how = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
    return blosc2.compress2(image, typesize=image.itemsize, **how)


class _Summed:
    """Writes a file sequentially and keeps the CRC-32 of its content."""

    def __init__(self, file: BufferedWriter) -> None:
        self.file, self.crc32 = file, 0

    def write(self, some: bytes | memoryview) -> None:
        self.file.write(some)
        self.crc32 = zlib.crc32(some, self.crc32)


def _write_blosc2(out: _Summed, dtype: np.dtype, images: Iterable[np.ndarray]) -> None:
    index, end = [], 0
    for image in images:
        chunk = compressed(image)
        out.write(chunk)
        end += len(chunk)
        index.append((end, zlib.crc32(chunk)))
    table = np.array(index, _INDEX).tobytes()
    out.write(table)
    out.write(_FOOTER.pack(_MAGIC, dtype.str.encode(), len(index), zlib.crc32(table)))


def _open_blosc2(path: Path, dtype: np.dtype) -> SliceFile:
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - _FOOTER.size))
        footer = file.read()
        magic, kind, n_slices, crc32 = _FOOTER.unpack(footer) if len(footer) == _FOOTER.size else (b"", b"", 0, 0)
        begin = size - _FOOTER.size - n_slices * _INDEX.itemsize
        if magic != _MAGIC or begin < 0:
            raise ValueError(f"{path}: expected an index of slices at its end, found none")
        file.seek(begin)
        table = file.read(n_slices * _INDEX.itemsize)
    index = np.frombuffer(table, _INDEX)
    if zlib.crc32(table) != crc32 or (index["end"][-1] if n_slices else 0) != begin:
        raise ValueError(f"{path}: expected an index of {n_slices} slices at its end, found a damaged one")
    if kind.rstrip(b"\0") != dtype.str.encode():
        raise ValueError(f"{path}: expected slices of type {dtype.str}, found {kind!r}")
    edges = np.concatenate([[0], index["end"].astype(np.int64)])
    return SliceFile(path, n_slices, dtype, edges, index["crc32"])


def _open_npy(path: Path, dtype: np.dtype) -> SliceFile:
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, found = np.lib.format.read_array_header_1_0(file)
        if len(shape) != 3 or shape[1:] != (SIZE, SIZE) or found != dtype:
            raise ValueError(f"{path}: expected (slices, {SIZE}, {SIZE}) {dtype}, found {shape} {found}")
        edges = file.tell() + np.arange(shape[0] + 1, dtype=np.int64) * dtype.itemsize * SIZE * SIZE
    return SliceFile(path, shape[0], dtype, edges, None)


@cache
def _blosc2() -> ModuleType:
    import blosc2  # here: the import takes half a second, and float16 caches do not need it

    blosc2.set_nthreads(1)
    return blosc2
