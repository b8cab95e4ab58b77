"""Row and column directions of images as orthogonal unit vectors, from the header or assumed.

Repaired vectors keep their direction: those of another length (spacing multiplied in), and axes that are not quite at
right angles (the row's direction is kept). Only missing, zero or nearly parallel vectors are replaced by assumed ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PLANES = {"sagittal": ((0, 1, 0), (0, 0, -1)), "coronal": ((1, 0, 0), (0, 0, -1)), "axial": ((1, 0, 0), (0, 1, 0))}
LENGTH, ANGLE = 0.01, 0.02  # deviations of length and dot product that count as rounding, without a warning
PARALLEL = 0.9  # cosine above which two axes do not define a plane
_SHORTEST = 1e-6


def orthogonal_units(stated: Sequence[float] | None) -> np.ndarray | None:
    """(6,) ImageOrientationPatient as orthogonal unit vectors; None if it does not define a plane."""
    if stated is None:
        return None
    along_row, along_column = np.array(stated[:3], float), np.array(stated[3:], float)
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if min(lengths) < _SHORTEST:
        return None
    along_row, along_column = along_row / lengths[0], along_column / lengths[1]
    if abs(along_row @ along_column) > PARALLEL:
        return None
    along_column = along_column - (along_column @ along_row) * along_row
    return np.concatenate([along_row, along_column / np.linalg.norm(along_column)])


def find_orientation(
    stated: tuple[float, ...] | None, positions: Sequence[tuple[float, ...] | None], warnings: list[str]
) -> np.ndarray:
    """(6,) orthogonal unit vectors of a stack with the header's orientation `stated`; warns if repaired or assumed.

    `positions` are those of its images: if the header defines no plane, the plane across their main direction is
    assumed.
    """
    mended = orthogonal_units(stated)
    if mended is not None:
        lengths = np.linalg.norm(np.reshape(stated, (2, 3)), axis=1)
        product = np.dot(stated[:3], stated[3:]) / lengths.prod()
        if np.abs(lengths - 1).max() > LENGTH or abs(product) > ANGLE:
            warnings.append(
                f"image orientation {stated}: expected unit vectors at right angles, found lengths of {lengths[0]:.3g} "
                f"and {lengths[1]:.3g} and an angle of {np.degrees(np.arccos(product)):.0f} degrees; directions kept"
            )
        return mended
    moves = np.zeros(3) if positions[0] is None else np.ptp(np.array(positions), axis=0)
    plane = list(PLANES)[int(np.argmax(moves)) if moves.max() > 0 else 2]
    both = [np.array(axis, float) for axis in PLANES[plane]]
    kept = _usable_axis(stated, both)
    warnings.append(
        f"image orientation {'missing' if stated is None else f'unusable ({stated})'}: taken as {plane}"
        + (f", with the direction of its {('rows', 'columns')[kept[0]]} as it is" if kept else "")
    )
    if kept:
        both[kept[0]] = kept[1]
        if kept[0] == 1:
            both[0] -= (both[0] @ both[1]) * both[1]
    return orthogonal_units(np.concatenate(both))


def _usable_axis(stated: tuple[float, ...] | None, assumed: list[np.ndarray]) -> tuple[int, np.ndarray] | None:
    """(0 for rows or 1 for columns, unit vector) of the only valid axis, if it fits the assumed plane."""
    if stated is None:
        return None
    axes = [np.array(stated[:3], float), np.array(stated[3:], float)]
    lengths = [np.linalg.norm(axis) for axis in axes]
    known = [i for i in (0, 1) if lengths[i] >= _SHORTEST]
    if len(known) != 1:
        return None
    axis = axes[known[0]] / lengths[known[0]]
    normal = np.cross(assumed[0], assumed[1])
    other = assumed[1 - known[0]]
    return (known[0], axis) if abs(axis @ normal) < 0.5 and abs(axis @ other) < PARALLEL else None
