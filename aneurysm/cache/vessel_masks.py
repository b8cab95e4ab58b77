"""Finds and reads the competition's vessel masks (`_cowseg.nii`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from aneurysm.labels import LOCATIONS, VESSEL_MASK
from aneurysm.paths import DataPaths

WHOLE = 1e-3  # values this near to a whole number are rounded: scaled files hold 4.9999998

# MASK_TO_LOCATION[v] is the cached value of mask value v: 0, or 1 + index into LOCATIONS.
MASK_TO_LOCATION = np.array([0, *(1 + LOCATIONS.index(VESSEL_MASK[value]) for value in sorted(VESSEL_MASK))], np.uint8)


@dataclass(frozen=True)
class VesselMask:
    """The vessels of one mask file.

    shape    voxels along the file's three axes
    voxels   (n, 3) indices of the vessel voxels
    numbers  (n,) uint8, 1 + index into LOCATIONS
    affine   (4, 4) from indices to millimetres (LPS)
    """

    path: Path
    shape: tuple[int, int, int]
    voxels: np.ndarray
    numbers: np.ndarray
    affine: np.ndarray

    @property
    def directions(self) -> np.ndarray:
        """(3, 3) unit direction of each axis."""
        steps = self.affine[:3, :3]
        return (steps / np.linalg.norm(steps, axis=0)).T

    def points_mm(self) -> np.ndarray:
        """(n, 3) the vessel voxels in millimetres (LPS)."""
        return self.voxels @ self.affine[:3, :3].T + self.affine[:3, 3]


def find_mask(paths: DataPaths, series_uid: str) -> Path | None:
    """The vessel mask file of a series, or None if it has none."""
    folders = (paths.segmentations / series_uid, paths.segmentations)
    places = (folder / f"{series_uid}_cowseg{ending}" for folder, ending in product(folders, (".nii", ".nii.gz")))
    return next((place for place in places if place.is_file()), None)


def read_mask(path: Path, warnings: list[str]) -> VesselMask:
    """The vessels of a NIfTI file; unknown values become background, with a sentence in `warnings`.

    Raises ValueError naming the file, what was expected and what was found, if it is not a vessel mask.
    """
    import nibabel  # here: only preprocessing reads masks

    try:
        image = nibabel.load(path, keep_file_open=True)
        problem = _problem(image)
        voxels, numbers, strange = (None, None, None) if problem else _vessels(image)
    except Exception as error:  # nibabel, gzip and zlib raise a different error for each kind of damage
        raise ValueError(f"{path}: expected a NIfTI file, found a damaged one ({error})") from error
    if problem:
        raise ValueError(f"{path}: expected {problem}")
    if strange:
        shown = ", ".join(list(strange)[:5]) + (" ..." if len(strange) > 5 else "")
        warnings.append(
            f"{path}: expected values 0 to 13, found {shown} in {strange.total()} voxels, taken as background"
        )
    if not len(voxels):
        raise ValueError(f"{path}: expected vessels, found none")
    ras_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    return VesselMask(path, image.shape[:3], voxels, numbers, ras_to_lps @ image.affine)


def _problem(image) -> str:
    """What was expected of an image's header and what was found instead; empty if the header is usable."""
    shape, dtype, header, affine = image.shape, image.get_data_dtype(), image.header, image.affine
    if len(shape) < 3 or set(shape[3:]) - {1}:
        return f"three axes, found {' x '.join(map(str, shape))} voxels"
    if dtype.kind not in "iuf":
        return f"numbers, found {dtype}"
    if not (header["sform_code"] or header["qform_code"]):
        return "an affine to patient coordinates, found neither sform nor qform"
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        return f"an affine that can be inverted, found {affine.tolist()}"
    return ""


def _vessels(image) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Voxels and numbers as in VesselMask, and counts of values other than 0 to 13; read plane by plane."""
    voxels, numbers, strange = [np.empty((0, 3), np.int32)], [np.empty(0, np.uint8)], Counter()
    rest = (0,) * (len(image.shape) - 3)
    for z in range(image.shape[2]):
        plane = np.asarray(image.dataobj[(slice(None), slice(None), z, *rest)]).T  # (y, x), as stored in the file
        found = np.flatnonzero(plane != 0)  # on bool: sixty times faster than on the numbers
        if not len(found):
            continue
        values = plane.ravel()[found].astype(np.float64)
        whole = np.rint(values)
        known = (np.abs(values - whole) < WHOLE) & (whole > 0) & (whole < len(MASK_TO_LOCATION))
        for value, count in zip(*np.unique(values[~known], return_counts=True), strict=True):
            strange[f"{value:g}"] += int(count)
        y, x = np.divmod(found[known], plane.shape[1])
        voxels.append(np.stack([x, y, np.full_like(x, z)], axis=1).astype(np.int32))
        numbers.append(MASK_TO_LOCATION[whole[known].astype(int)])
    return np.concatenate(voxels), np.concatenate(numbers), strange


def in_blocks(vessels: np.ndarray, stride: int) -> np.ndarray:
    """uint8: the lowest vessel value in each block of `stride` pixels along every axis, or 0; incomplete blocks at the
    ends are dropped."""
    counts = [n // stride for n in vessels.shape]
    whole = vessels[tuple(slice(0, n * stride) for n in counts)]
    blocks = whole.reshape([size for n in counts for size in (n, stride)])
    first = np.where(blocks == 0, len(LOCATIONS) + 1, blocks).min(axis=tuple(range(1, 2 * vessels.ndim, 2)))
    return np.where(first > len(LOCATIONS), 0, first).astype(np.uint8)
