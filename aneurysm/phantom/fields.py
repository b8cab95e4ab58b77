"""Tissue borders of one head as fields: signed distances in mm, positive inside, at given points.

Fields are smooth, so that a coarse lattice is enough: they are interpolated to the pixels, then thresholded.
Thin sheets (falx, tentorium, sulci) would fall between lattice points. Their fields are the signed distance to the
middle of the sheet (midline, tent, folds) and the region where the sheet exists (the zones).
"""

from __future__ import annotations

import numpy as np

from aneurysm.phantom import bones, brain, soft
from aneurysm.phantom.distance import FAR, Place, all_of, any_of, ellipsoid
from aneurysm.phantom.shape import HeadShape
from aneurysm.phantom.waves import Waves

NAMES = (
    "skin", "fat", "bone", "shell_depth", "dense", "cavity", "air", "eye", "cord", "marrow", "texture",
    "brain", "white", "fluid", "midline", "tent", "cleft_zone", "falx_zone", "tent_zone", "folds", "fade", "smooth",
)  # fmt: skip
DEEPEST_SULCUS_MM, DEEPEST_FOLIUM_MM = 16.0, 9.0


def may_hold_head(standard: np.ndarray) -> np.ndarray:
    """(n,) bool: whether points of the standard head may lie in the body: in an oval cylinder or the shoulders."""
    x, y, z = standard.T
    return ((x / 90) ** 2 + ((y - 4) / 116) ** 2 < 1) & (z < 112) | (z < -105)


class HeadFields:
    """The fields of one head; sulci and textures are drawn from its shape's seed."""

    def __init__(self, shape: HeadShape):
        rng = np.random.default_rng(shape.seed)
        self.shape = shape
        self.gyri = Waves(rng, 18, 25, 9)
        self.folia = Waves(rng, 7, 9, 5)
        self.planes = Waves(rng, 16, 30, 6)
        self.cells = Waves(rng, 6, 9, 6)
        self.cloud = Waves(rng, 12, 40, 6)

    def at(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """One float32 (n,) field for each of NAMES, at (n, 3) points in the person's frame; FAR outside the body."""
        standard = self.shape.to_standard(points.astype(np.float32))
        head = may_hold_head(standard)
        found = {name: np.full(len(points), FAR) for name in NAMES}
        if head.any():
            for name, field in self.near(standard[head]).items():
                found[name][head] = field
        return found

    def skin(self, points: np.ndarray) -> np.ndarray:
        """The field `skin` alone, float32 (n,), at (n, 3) points in the person's frame."""
        standard = self.shape.to_standard(points.astype(np.float32))
        skin, head = np.full(len(points), FAR), may_hold_head(standard)
        if head.any():
            x, y, z = (np.ascontiguousarray(v) for v in standard[head].T)
            place = Place(np.abs(x), y, z)
            skin[head] = soft.skin(place, brain.cavity(place), self.shape.bone_mm + self.shape.scalp_mm)
        return skin

    def near(self, standard: np.ndarray) -> dict[str, np.ndarray]:
        """The fields at (n, 3) float32 points in the standard head."""
        signed = tuple(np.ascontiguousarray(standard[:, axis]) for axis in range(3))
        place = Place(np.abs(signed[0]), signed[1], signed[2])
        space = brain.cavity(place)
        return {**self.outside(place, signed, space), **self.inside(place, signed, space)}

    def outside(self, place: Place, signed, space: np.ndarray) -> dict[str, np.ndarray]:
        """Skin, fat, bone, air, eyes, cranial cavity; `space`: `brain.cavity`, before bone is subtracted."""
        shape, (_, y, z) = self.shape, place
        rock = bones.petrous(place)
        noise = self.planes.at(signed) * np.float32(self.planes.mm_per_unit)
        high = np.maximum(np.maximum((z - 5) / 30, (y - 45) / 25), (-50 - y) / 10)
        thick = 2.6 + (shape.bone_mm - 2.6) * np.clip(high, 0, 1) + 0.15 * noise
        thick = thick * np.clip((z + 56) / 6, 0, 1)
        shell = all_of(-space, thick + space)
        extra = any_of(bones.skull_base(place), bones.face_bones(place), bones.spine(place))
        skin = soft.skin(place, space, shape.bone_mm + shape.scalp_mm)
        cells = bones.mastoid_cells(place)
        if cells is not FAR:
            cells = all_of(cells, 1.6 * self.cells.at(signed) + 1.5 * shape.air - 0.3)
        return {
            "skin": skin,
            "fat": soft.fat(place, skin, shape.scalp_mm, noise),
            "bone": any_of(shell, all_of(extra, -space), rock),
            "shell_depth": shell,
            "dense": any_of(rock, bones.teeth(place)),
            "cavity": any_of(all_of(space, -rock), bones.inner_canal(place)),
            "air": any_of(bones.sinuses(place, shape.air), bones.airway(place), cells),
            "eye": soft.eye(place),
            "cord": soft.eye_muscles(place),
            "marrow": 0.25 * noise,
        }

    def inside(self, place: Place, signed, space: np.ndarray) -> dict[str, np.ndarray]:
        """Brain, white matter, ventricles, fissures, sulci, dural sheets, and texture."""
        gap = 1.0 + 2.0 * self.shape.atrophy
        stem, above = brain.brainstem(place), brain.tentorium(place)
        folds = self.gyri.at(signed) * np.float32(self.gyri.mm_per_unit)
        depth = all_of(space - gap, -brain.fissures(place, gap, folds), -brain.cisterns(place))
        folds, fade = self.furrows(signed, folds, space - gap, all_of(-above, place[1] - 28) > 0)
        return {
            "brain": any_of(depth, stem),
            "white": all_of(any_of(depth, stem + 4) - 3.2, -brain.deep_grey(place)),
            "fluid": brain.ventricles(place, self.shape.atrophy),
            "texture": self.cloud.at(signed),
            "midline": signed[0],
            "tent": above,
            **brain.sheet_zones(place, above),
            "folds": folds,
            "fade": fade,
            # No sulci in the brainstem or around the deep nuclei.
            "smooth": np.maximum(0.5 * (ellipsoid(place, (0, 16, 12), (32, 34, 22)) + 4), stem + 2),
        }

    def furrows(self, signed, folds: np.ndarray, depth: np.ndarray, cerebellum: np.ndarray):
        """Signed distance in mm to the middle of the nearest sulcus or folium, and minus its half width (< 0)."""
        deepest = np.float32(DEEPEST_SULCUS_MM)
        width = np.float32(0.3 + 0.75 * self.shape.atrophy)
        if cerebellum.any():
            leaves = self.folia.at(signed) * np.float32(self.folia.mm_per_unit)
            folds = np.where(cerebellum, leaves, folds)
            deepest = np.where(cerebellum, np.float32(DEEPEST_FOLIUM_MM), deepest)
            width = np.where(cerebellum, 0.5 * width, width)
        return folds, 0.6 * np.maximum(0, depth - deepest) - width
