"""A DICOM file that gives up where pydicom would fill the memory with it, or read it for minutes."""

from __future__ import annotations

import io
import zlib

import pydicom
from pydicom.dataelem import RawDataElement

MAX_INFLATED = 2**26  # bytes that a deflated data set may always have; a larger one, 20 times its deflated length
MAX_ITEMS = 200_000  # in all sequences of a header, at 80 microseconds and a kilobyte each
MAX_READS = 500_000  # of a header by pydicom, one or two for each element and item: an enhanced MR takes 206 an image


class BoundedFile(io.BufferedReader):
    """An open file, for pydicom.dcmread; reads raise ValueError where the header has no end or inflates without one."""

    n_reads = 0

    def read(self, size: int | None = -1) -> bytes:
        """As ever. All that is left is read at once only where that is a deflated data set, to be inflated."""
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
    """Raises ValueError where sequences that pydicom has not looked into yet have too many items."""
    raw = (dataset.get_item(tag, keep_deferred=True) for tag in dataset.keys())  # noqa: SIM118
    values = [one.value for one in raw if isinstance(one, RawDataElement) and isinstance(one.value, bytes)]
    n_items = sum(value.count(mark) for value in values for mark in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"))
    if n_items > MAX_ITEMS:
        raise ValueError(f"expected at most {MAX_ITEMS} items in a header's sequences, found {n_items}")
