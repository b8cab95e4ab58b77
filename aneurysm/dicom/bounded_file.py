"""Limits on header size, so that a damaged DICOM file cannot fill the memory or keep pydicom busy for minutes."""

from __future__ import annotations

import io
import zlib

import pydicom
from pydicom.dataelem import RawDataElement

MAX_INFLATED = 2**26  # bytes always allowed for an inflated data set; otherwise at most 20 times the deflated length
MAX_ITEMS = 200_000  # in all sequences of a header; each costs 80 microseconds and a kilobyte
MAX_READS = 500_000  # by pydicom per header, one or two per element and item; an enhanced MR takes 206 per image


class BoundedFile(io.BufferedReader):
    """An open file for pydicom.dcmread; reading raises ValueError if the header, or its inflated size, is too large."""

    n_reads = 0

    def read(self, size: int | None = -1) -> bytes:
        """Counts reads; checks the inflated size if all the rest is read, which pydicom does only to inflate it."""
        self.n_reads += 1
        if self.n_reads > MAX_READS:
            raise ValueError(f"expected at most {MAX_ITEMS} items and elements in a header, found more")
        content = super().read(size)
        if size in (None, -1):
            _check_inflated(content)
        return content


def _check_inflated(deflated: bytes) -> None:
    most, n_bytes, rest = max(MAX_INFLATED, 20 * len(deflated)), 0, deflated
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # DICOM PS3.5 A.5: without zlib's own header
    while rest and not inflater.eof:
        n_bytes += len(inflater.decompress(rest, 2**20))
        rest = inflater.unconsumed_tail
        if n_bytes > most:
            raise ValueError(f"{len(deflated)} deflated bytes are more than {most} bytes when inflated")


def check_items(dataset: pydicom.Dataset) -> None:
    """Raises ValueError if sequences that pydicom has not parsed yet have too many items."""
    raw = (dataset.get_item(tag, keep_deferred=True) for tag in dataset.keys())  # noqa: SIM118
    values = [one.value for one in raw if isinstance(one, RawDataElement) and isinstance(one.value, bytes)]
    n_items = sum(value.count(mark) for value in values for mark in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"))
    if n_items > MAX_ITEMS:
        raise ValueError(f"expected at most {MAX_ITEMS} items in a header's sequences, found {n_items}")
