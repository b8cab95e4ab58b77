"""Writes a vessel mask as an uncompressed NIfTI-1 file, in the orientation of its DICOM series."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from aneurysm.phantom.grid import Grid

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def write_mask(path: Path, mask: np.ndarray, grid: Grid) -> None:
    """Writes a mask (slices, rows, columns) as uint8; NIfTI's first axis is the column, its millimetres are RAS."""
    columns = np.stack([grid.col_step, grid.row_step, grid.step, grid.origin], axis=1) * _LPS_TO_RAS[:, None]
    lengths = np.linalg.norm(columns[:, :3], axis=0)
    header = bytearray(352)  # 348 bytes of header (nifti1.h) and 4 zero bytes: no extensions
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *mask.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)  # uint8, 8 bits
    struct.pack_into("<8f", header, 76, 1.0, *lengths, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)  # offset of the voxels, slope, intercept
    struct.pack_into("<B", header, 123, 2)  # millimetres
    struct.pack_into("<2h", header, 252, 0, 1)  # no qform; the sform is in scanner coordinates
    struct.pack_into("<12f", header, 280, *columns.ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    path.write_bytes(bytes(header) + np.ascontiguousarray(mask, np.uint8).tobytes())
