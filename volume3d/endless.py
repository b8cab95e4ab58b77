"""Endless training samples from parts of phantom volumes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aneurysm.folds.targets import labels_of, shown_locations
from aneurysm.training.data import EndlessSamples
from volume3d.config import PhantomPartsConfig, Volume3dConfig, VolumeSettings
from volume3d.dataset import mirrored_part, model_inputs
from volume3d.patient import PATIENT_KEYS, patient_inputs
from volume3d.phantoms import PhantomPart, scan_parts


class EndlessParts(EndlessSamples):
    """`n_parts` new parts in each epoch.

    An item: image (1, slices, rows, columns), sac and vessels of the cells, labels of what the part shows, place_mm,
    spacing_mm, and PATIENT_KEYS of an unknown patient.
    """

    def __init__(
        self, config: Volume3dConfig, phantoms: PhantomPartsConfig, volumes: VolumeSettings, seed: int, n_parts: int
    ):
        """Raises ValueError if a part is not a whole number of cells, or if `volumes` does not fix the voxel size."""
        super().__init__(seed, n_parts, phantoms.parts_per_scan, config.training.batch_size)
        self.config, self.phantoms, self.volumes, self.stride = config, phantoms, volumes, config.net.stride
        if not volumes.pixel_mm:
            raise ValueError("volumes.pixel_mm 0: expected millimetres, so that all voxels are of one size")
        if any(n % self.stride for n in phantoms.shape):
            raise ValueError(f"phantoms.shape {phantoms.shape}: expected multiples of the cells' {self.stride} voxels")
        nobody = patient_inputs(None, None, None)
        self.nobody = [nobody[key] for key in PATIENT_KEYS]

    def make_scan(self, number: int) -> list[tuple[PhantomPart, bool]]:
        """Each part, and whether this use of it is mirrored."""
        parts = scan_parts(self.seed, number, self.phantoms, self.volumes, self.stride)
        n_first = len(parts) // self.phantoms.uses
        return [(part, k // n_first % 2 == 1) for k, part in enumerate(parts)]

    def tensors(self, sample: tuple[PhantomPart, bool]) -> dict[str, Tensor]:
        part, is_mirrored = sample
        spacing_mm = np.array([self.volumes.z_mm, self.volumes.pixel_mm, self.volumes.pixel_mm], np.float32)
        arrays = {
            "sac": part.sac, "vessels": part.vessels, "labels": labels_of(shown_locations(part.sac)),
            "place_mm": part.place_mm, "spacing_mm": spacing_mm,
        }  # fmt: skip
        inputs = model_inputs(part.image, self.nobody) | {name: torch.from_numpy(a) for name, a in arrays.items()}
        return mirrored_part(inputs) if is_mirrored else inputs
