"""The JSON file of a cached series: everything but its pixels, with sizes and checksums that reveal damaged files."""

from __future__ import annotations

import json
from pathlib import Path

from aneurysm.cache.storage import REMEDY, zlib
from aneurysm.paths import DataPaths, atomic_write

_EXPECTED = {"fingerprint": str, "meta": dict, "position_mm": list, "mapping": dict}
_BLOCK = 1 << 20


def read_description(path: Path) -> dict:
    """A description that `write_description` wrote; ValueError naming the file if it is missing or damaged."""
    if not path.exists():
        raise ValueError(f"{path}: not there; has preprocess_data.py run for this series?")
    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found a damaged file ({error}); {REMEDY}") from error
    if not isinstance(description, dict) or any(
        not isinstance(description.get(name), kind) for name, kind in _EXPECTED.items()
    ):
        raise ValueError(f"{path}: expected the description of a series with {', '.join(_EXPECTED)}; {REMEDY}")
    if description.pop("crc32", None) not in (None, _crc32_of(description)):  # None: an older file without checksum
        raise ValueError(f"{path}: expected the description as it was written, found damage; {REMEDY}")
    return description


def write_description(path: Path, description: dict) -> None:
    """Writes a description with a checksum of itself, atomically."""
    with atomic_write(path) as file:
        file.write_text(json.dumps(description | {"crc32": _crc32_of(description)}))


def file_facts(paths: DataPaths, path: Path, crc32: int) -> dict[str, dict]:
    """A file's entry in a description's `files`: path relative to the cache -> bytes and crc32."""
    return {path.relative_to(paths.cache).as_posix(): {"bytes": path.stat().st_size, "crc32": f"{crc32:08x}"}}


def damaged_files(paths: DataPaths, description: dict, every_byte: bool) -> list[str]:
    """A sentence for each file of a cached series that has changed since it was written.

    Compares only sizes, or with `every_byte` also checksums.
    """
    if every_byte and not description.get("files"):
        return [f"{paths.npy_sequence / description['meta']['SeriesInstanceUID']}: cached before checksums were kept"]
    found = (_damage(paths.cache / name, facts, every_byte) for name, facts in description.get("files", {}).items())
    return [sentence for sentence in found if sentence]


def _damage(path: Path, facts: dict, every_byte: bool) -> str:
    try:
        n_bytes = path.stat().st_size
        if n_bytes != facts["bytes"]:
            return f"{path}: expected {facts['bytes']} bytes, found {n_bytes}"
        if every_byte and (crc32 := _crc32_of_file(path)) != facts["crc32"]:
            return f"{path}: expected the CRC-32 {facts['crc32']}, found {crc32}"
    except OSError as error:  # missing, or on a bad part of the disk
        return f"{path}: {error.strerror}"
    return ""


def _crc32_of(description: dict) -> str:
    return f"{zlib.crc32(json.dumps(description).encode()):08x}"


def _crc32_of_file(path: Path) -> str:
    crc32 = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            crc32 = zlib.crc32(block, crc32)
    return f"{crc32:08x}"
