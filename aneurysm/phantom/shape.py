"""The size and shape of one head: a smooth map between the standard head and this person's head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aneurysm.phantom.vessels import Vessel

# The inside of the standard skull above its base: centre and half axes in millimetres.
VAULT_CENTRE, VAULT_HALF = np.array([0.0, 17.0, 18.0]), np.array([67.0, 83.0, 66.0])
BRAIN_HALF = VAULT_HALF - 3.0
# In front of y = FRONT_MM the standard head is longer than a real one by this fraction: aneurysms lie at 0.39 of a
# head's length.
FRONT_MM, FRONT_EXCESS = -8.0, 0.085


@dataclass(frozen=True)
class HeadShape:
    """How a head differs from the standard one.

    scale      (3,) factors along x, y, z
    waves      (w, 3) wave vectors in rad/mm, phases (w,), swing (w, 3) in mm: a smooth, asymmetric unevenness
    atrophy    0 (young) to 1 (wide sulci and ventricles)
    bone_mm    thickness of the calvaria
    scalp_mm   thickness of skin and fat over it
    air        0 to 1 (fully pneumatised): air in sinuses and mastoids
    seed       random seed of sulci and textures
    """

    scale: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    swing: np.ndarray
    atrophy: float
    bone_mm: float
    scalp_mm: float
    air: float
    seed: int

    @property
    def cleft_mm(self) -> float:
        """Half the width in mm of the interhemispheric fissure."""
        return 0.5 + 0.5 * self.atrophy

    def uneven(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) shift in mm at (..., 3) points of this head; `to_standard` adds it."""
        kind = points.dtype
        flat = np.ascontiguousarray(points.reshape(-1, 3).T)
        shift = np.zeros_like(flat)
        for vector, phase, swing in zip(self.waves, self.phases, self.swing, strict=True):
            angle = vector.astype(kind) @ flat + kind.type(phase)
            wave = np.sin(angle)
            for axis in range(3):
                shift[axis] += kind.type(swing[axis]) * wave
        return shift.T.reshape(points.shape)

    def to_standard(self, points: np.ndarray) -> np.ndarray:
        """Converts (..., 3) points of this head to the standard head."""
        places = points / self.scale.astype(points.dtype) + self.uneven(points)
        places[..., 1] += np.minimum(0, places[..., 1] - FRONT_MM) * points.dtype.type(FRONT_EXCESS)
        return places

    def from_standard(self, points: np.ndarray) -> np.ndarray:
        """Converts (..., 3) points of the standard head to this head, to within a tenth of a millimetre."""
        places = np.array(points, float)
        places[..., 1] -= np.minimum(0, places[..., 1] - FRONT_MM) * FRONT_EXCESS / (1 + FRONT_EXCESS)
        found = places * self.scale
        for _ in range(3):
            found = (places - self.uneven(found)) * self.scale
        return found

    def carry(self, vessels: dict[str, Vessel]) -> None:
        """Moves vessels from the standard head to this one, in place."""
        ends = np.cumsum([len(vessel.points) for vessel in vessels.values()])
        points = self.from_standard(np.vstack([vessel.points for vessel in vessels.values()]))
        for vessel, moved in zip(vessels.values(), np.split(points, ends[:-1]), strict=True):
            vessel.points = moved


def draw_shape(rng: np.random.Generator) -> HeadShape:
    """Draws an adult head; 98 % of heads are within about +- 10 % of the standard head in each direction."""
    size = rng.normal(1.0, 0.03)
    lengths = rng.uniform(60, 140, 9)
    directions = rng.standard_normal((9, 3))
    waves = 2 * np.pi / lengths[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return HeadShape(
        scale=size * np.exp(rng.normal(0, [0.03, 0.03, 0.025])),
        waves=waves,
        phases=rng.uniform(0, 2 * np.pi, 9),
        swing=rng.normal(0, 0.5, (9, 3)),
        atrophy=float(rng.beta(2, 2.5)),
        bone_mm=float(rng.uniform(5.0, 8.5)),
        scalp_mm=float(rng.uniform(4.5, 8.0)),
        air=float(rng.beta(4, 2)),
        seed=int(rng.integers(2**32)),
    )
