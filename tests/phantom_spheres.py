"""A stand-in for the phantoms' anatomy and rendering that takes milliseconds: a grey head with spheres for sacs."""

from dataclasses import dataclass

import numpy as np

from aneurysm.labels import VESSEL_MASK
from aneurysm.phantom.acquisition import SAC_REGION
from aneurysm.phantom.render import Rendered
from aneurysm.phantom.sacs import Sac


@dataclass
class SpherePerson:
    sacs: list[Sac]


def draw_person(rng, locations, style=None) -> SpherePerson:
    """One sphere per location, anywhere that acquisitions cover; the same in every style."""
    centres = [rng.dirichlet(np.ones(len(SAC_REGION))) @ SAC_REGION for _ in locations]
    sacs = [
        Sac(name, centre, float(rng.uniform(3, 9)), 2.0, np.zeros((0, 8)))
        for name, centre in zip(locations, centres, strict=True)
    ]
    return SpherePerson(sacs)


def render(person, grid, modality, rng, masks=False) -> Rendered:
    """The head is an ellipsoid; the mask marks a sphere on the patient's left as left MCA and one on the right."""
    points = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    air, tissue = (-1000, 40) if modality == "CTA" else (0, 200)
    image = np.where((((points - (0, 16, 18)) / (72, 92, 78)) ** 2).sum(-1) < 1, tissue, air).astype(np.float32)
    for sac in person.sacs:
        image[np.linalg.norm(points - sac.centre, axis=-1) < sac.diameter_mm / 2] = 400
    image += rng.standard_normal(grid.shape, dtype=np.float32) * 8
    mask = np.zeros(grid.shape, np.uint8)
    for value, name in VESSEL_MASK.items():
        if name.endswith("Middle Cerebral Artery"):
            x = 35 if name.startswith("Left") else -35
            mask[np.linalg.norm(points - (x, 0, 0), axis=-1) < 9] = value
    return Rendered(image if modality == "CTA" else np.abs(image), mask if masks else None)
