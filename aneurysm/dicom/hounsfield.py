"""Checks the Hounsfield units of a CT against its pixels: the only place where pixels may overrule the header.

The header is overruled only if three conditions hold together.

1. Its slope is 1 and its intercept belongs to a known error: -1024 although the stored values are Hounsfield units or
   these + 8192; 0 although they are Hounsfield units + 1024 or + 8192. Any other header is kept.
2. With the header's values there is no head: no soft tissue inside with air, if any, around it.
3. With exactly one of the known corrections there clearly is one.

If only 2 holds, the header is kept with the warning 'unsure'. Never used as evidence: the smallest value, and a
constant region that reaches the border of the image, which may be clipped air, padding or a removed background. Values
that no CT has (noise below -1250, large regions above 2600) mean that the sign or the number of bits may be wrong:
unsure.
"""

from __future__ import annotations

import numpy as np

from aneurysm.dicom.pixels import reaching_border

INTERCEPT_CORRECTIONS = {
    0.0: (-1024.0, -8192.0),
    -1024.0: (1024.0, -7168.0),
}  # intercept -> possible corrections, to be added
AIR_HU, SOFT_HU, TISSUE_HU = (-1150, -500), (-120, 140), -500
POSSIBLE_HU = (-1250, 2600)
FEW = 0.02  # relative to the soft tissue; the location of fewer pixels is no evidence
ENOUGH = 64  # rows and columns to sample, at least (if there are as many)
ENOUGH_SLICES = 12
SMALLEST = 16  # rows and columns; smaller images cannot be checked


def hounsfield_shift(values: np.ndarray, slope: float, intercept: float | None) -> tuple[float, str]:
    """(correction to add to `values`, doubt): 0 if the header is kept; the doubt is a sentence, or "".

    `values` (slices, rows, columns) are Hounsfield units by the header's `slope` and `intercept`; the intercept is None
    if slices differ in their rescale.
    """
    if min(values.shape[1:]) < SMALLEST:
        return 0.0, ""
    step = max(1, min(values.shape[1:]) // ENOUGH)
    values = values[:: max(1, len(values) // ENOUGH_SLICES), ::step, ::step]
    outside = np.stack([_constant_outside(image) for image in values])
    shift = _known_shift(values, outside, slope, intercept)
    if shift is None:
        return 0.0, "no soft tissue with air around it is found"
    border_hu = float(np.median(values[outside])) + shift if np.mean(outside) > 0.01 else 0.0
    return shift, f"the border is constant at {border_hu:g}" if border_hu > POSSIBLE_HU[1] else ""


def _known_shift(values: np.ndarray, outside: np.ndarray, slope: float, intercept: float | None) -> float | None:
    """0 if the header's values show a head, else the only known correction that does; None if none or several do."""
    if _is_head(values, outside, strict=False):
        return 0.0
    corrections = INTERCEPT_CORRECTIONS.get(intercept, ()) if slope == 1 and intercept is not None else ()
    fitting = [shift for shift in corrections if _is_head(values + np.float32(shift), outside, strict=True)]
    return fitting[0] if len(fitting) == 1 else None


def _constant_outside(image: np.ndarray) -> np.ndarray:
    """(rows, columns) bool: the constant region that reaches the border and surrounds the rest, if there is one."""
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    found, counts = np.unique(border, return_counts=True)
    if counts.max() < 0.1 * len(border):
        return np.zeros(image.shape, bool)
    region = reaching_border(image == found[np.argmax(counts)])
    rest = ~region
    if not rest.any():
        return region
    distance = _distances(rest)
    return region & (distance[region].mean() > distance[rest].mean())


def _distances(mask: np.ndarray) -> np.ndarray:
    """(rows, columns) distance in pixels of each pixel from the centroid of the mask."""
    rows, cols = np.nonzero(mask)
    r, c = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return np.hypot(r - rows.mean(), c - cols.mean())


def _is_head(values: np.ndarray, outside: np.ndarray, strict: bool) -> bool:
    """Whether there is soft tissue inside, and air only around it; `strict` uses tighter limits, for a clear case."""
    n_pixels = np.count_nonzero(~outside)
    soft = (values >= SOFT_HU[0]) & (values <= SOFT_HU[1]) & ~outside
    n_soft = np.count_nonzero(soft)
    n_tissue = np.count_nonzero((values > TISSUE_HU) & ~outside)
    if n_soft < (0.03 if strict else 0.02) * n_pixels or n_soft < (0.4 if strict else 0.3) * n_tissue:
        return False
    dark, bright = values < POSSIBLE_HU[0], values > POSSIBLE_HU[1]
    if np.count_nonzero(dark & ~outside) > 0.05 * n_pixels or np.count_nonzero(bright & ~outside) > 0.1 * n_pixels:
        return False
    air = (values >= AIR_HU[0]) & (values <= AIR_HU[1]) & ~outside
    sums = np.zeros((3, 2))  # soft tissue, air, all but soft tissue: pixels, sum of distances from the soft centre
    for own_soft, own_air, own_outside in zip(soft, air, outside, strict=True):
        if own_soft.any():
            distance = _distances(own_soft)
            for total, mask in zip(sums, (own_soft, own_air, ~own_soft & ~own_outside), strict=True):
                total += np.count_nonzero(mask), distance[mask].sum()
    mean_soft, mean_air, mean_rest = (sums[:, 1] / np.maximum(sums[:, 0], 1)).tolist()
    air_factor = 1.2 if strict else 1.1 if sums[1, 0] > n_soft else 0.9
    air_around = sums[1, 0] <= 0.25 * n_soft or mean_air > air_factor * mean_soft
    rest_around = sums[2, 0] <= FEW * n_soft or mean_rest > (1.0 if strict else 0.9) * mean_soft
    return air_around and rest_around
