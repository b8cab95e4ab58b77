"""Random wave fields: smooth noise as a function of the position in the head, the same on every grid."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.distance import Place


class Waves:
    """A sum of `count` plane waves with wavelengths between two bounds; its zero surfaces are winding, as sulci are."""

    def __init__(self, rng: np.random.Generator, shortest_mm: float, longest_mm: float, count: int = 7):
        lengths = rng.uniform(shortest_mm, longest_mm, count)
        directions = rng.standard_normal((count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self.vectors = (2 * np.pi / lengths[:, None] * directions).astype(np.float32)
        self.phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
        self.mm_per_unit = float(np.sqrt(shortest_mm * longest_mm) / (2 * np.pi))

    def at(self, place: Place) -> np.ndarray:
        """Values of variance 1; times `mm_per_unit` they are about the distance in mm to the nearest zero."""
        total = np.zeros_like(place[0])
        for vector, phase in zip(self.vectors, self.phases, strict=True):
            total += np.cos(vector[0] * place[0] + vector[1] * place[1] + vector[2] * place[2] + phase)
        return total * np.float32(np.sqrt(2 / len(self.phases)))
