"""Paints vessels, sacs and plaques of a person into one volume, and computes the intensity of blood."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.contrast import Contrast
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.person import Person
from aneurysm.phantom.raster import Capsules, code_of, paint, pieces_of, share_of
from aneurysm.phantom.sacs import Sac

# Codes in the painted volume; if two fill a voxel equally, the larger code wins.
VEIN, ARTERY, FIRST_MASK, CHALK = 0, 1, 2, 15  # FIRST_MASK - 1 + v is an artery with mask number v (1..13)
LARGE_SAC_MM = 7.0


def blood_of(person: Person) -> Capsules:
    """Capsules of all vessels, infundibula, sacs and plaques; sacs have the code of unlabelled arteries."""
    capsules, codes = [], []
    for vessel in person.vessels.values():
        pieces = pieces_of(vessel.points, vessel.radius_mm)
        capsules.append(pieces)
        marks = np.where(vessel.mask > 0, vessel.mask + FIRST_MASK - 1, VEIN if vessel.vein else ARTERY)
        codes.append(marks[:-1])
    for blobs, code in ((person.cones, ARTERY), *((sac.blobs, ARTERY) for sac in person.sacs), (person.chalk, CHALK)):
        capsules.append(blobs)
        codes.append(np.full(len(blobs), code))
    return Capsules.of(np.vstack(capsules), np.concatenate(codes))


def paint_blood(blood: Capsules, grid: Grid, soft_mm: float) -> np.ndarray:
    """uint16 volume of the grid's shape: filled fraction and code of each voxel (format: see raster.py)."""
    volume = np.zeros(grid.shape, np.uint16)
    paint(volume, grid, blood.near(grid, soft_mm), soft_mm)
    return volume


def surroundings_of(person: Person) -> tuple[Capsules, Capsules]:
    """Capsules of the CSF within 1.6 mm of arteries at the brain's base, and of the carotid canals."""
    found = []
    for names, margin in ((CISTERN_PARTS, 1.6), (CANAL_PARTS, 0.0)):
        capsules = []
        for name, vessel in person.vessels.items():
            part = names.get(name.split(" ", 1)[-1])
            if part is not None:
                keep = (vessel.station_mm >= part[0]) & (vessel.station_mm <= part[1])
                capsules.append(pieces_of(vessel.points[keep], vessel.radius_mm[keep] + margin))
        shapes = np.vstack([c for c in capsules if len(c)])
        found.append(Capsules.of(shapes, np.ones(len(shapes))))
    return found[0], found[1]


def paint_surroundings(
    surroundings: tuple[Capsules, Capsules], grid: Grid, reach_mm: float = 8.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rough signed distances in mm to the CSF around arteries and to the carotid canals, on a coarse grid.

    Two float32 arrays of the grid's shape, positive inside, within +- `reach_mm` / 2. They are too low for capsules
    thinner than `reach_mm`, which `coverage` treats as partial volume: below 0 on the axis if the radius is under 2.8
    mm (for 8 mm).
    """
    found = []
    for capsules in surroundings:
        volume = np.zeros(grid.shape, np.uint16)
        paint(volume, grid, capsules.near(grid, reach_mm), reach_mm)
        found.append((share_of(volume) - 0.5) * np.float32(reach_mm))
    return found[0], found[1]


# First and last station (mm) of the segments in wide CSF spaces, and of those in bone.
CISTERN_PARTS = {
    "ICA": (0, 11), "MCA": (0, 90), "M2": (0, 60), "ACA": (0, 70), "ACom": (0, 9), "PCA": (0, 50), "PCom": (0, 30),
    "basilar": (0, 40), "vertebral": (0, 28), "SCA": (0, 30), "AICA": (0, 20), "PICA": (0, 25),
}  # fmt: skip
CANAL_PARTS = {"ICA": (11, 75)}


def arterial_value(points: np.ndarray, sacs: list[Sac], contrast: Contrast, span: tuple[float, float]) -> np.ndarray:
    """float32 (n,) intensity of arterial blood at (n, 3) points in mm; `span`: lowest and highest z of the scan.

    The signal saturates towards the top of each TOF slab. Slow, swirling flow changes it in the core of large sacs.
    """
    height = np.clip((points[:, 2] - span[0]) / max(1.0, span[1] - span[0]), 0, 1)
    height = height * contrast.slabs - np.minimum(np.floor(height * contrast.slabs), contrast.slabs - 1)
    value = contrast.artery + height * (contrast.artery_low - contrast.artery)
    for sac in sacs:
        if contrast.sac_mixing and sac.diameter_mm > LARGE_SAC_MM:
            away = points - sac.centre
            core = np.clip(1.3 - 2 * np.linalg.norm(away, axis=1) / sac.diameter_mm, 0, 1)
            swirl = 0.6 + 0.4 * np.sin(away @ np.array([2.1, 1.3, 1.7]) * np.pi / sac.diameter_mm)
            value *= 1 - contrast.sac_mixing * core * swirl
    return value.astype(np.float32)


def blood_value(codes: np.ndarray, contrast: Contrast) -> np.ndarray:
    """float32 intensity of veins and plaques by code, in the shape of `codes`; 0 for arteries."""
    table = np.zeros(16, np.float32)
    table[VEIN], table[CHALK] = contrast.vein, contrast.chalk
    return table[codes]


def mask_of(volume: np.ndarray) -> np.ndarray:
    """uint8 VESSEL_MASK number of each voxel at least half filled by a labelled artery, else 0; sacs are 0."""
    codes = code_of(volume)
    labelled = (codes >= FIRST_MASK) & (codes < CHALK) & (share_of(volume) >= 0.5)
    return np.where(labelled, codes - (FIRST_MASK - 1), 0).astype(np.uint8)
