"""Volumes as the model takes them: in training changed a little each time, when asked about as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aneurysm.labels import LABELS
from volume3d.augment import augmented
from volume3d.cases import Cases
from volume3d.config import Volume3dConfig
from volume3d.crop import cut, seen_centre
from volume3d.patient_inputs import PATIENT_KEYS
from volume3d.volume import read_geometry, read_volume

SAMPLE_STREAM = 1  # keeps the random numbers of the samples apart from those of their order


class PlainVolumes(Dataset):
    """Each series once, in the order of `cases`, all of which have a volume.

    An item: image (1, slices, rows, columns) float32 in [0, 1], labels14 (14,) (NaN where unknown), age, sex, weight
    and whether these are known (PATIENT_KEYS), number (its row). Raises ValueError naming the file that is damaged.
    """

    def __init__(self, cases: Cases, config: Volume3dConfig):
        self.cases, self.config = cases, config
        self.uids = cases.table.SeriesInstanceUID.tolist()
        self.labels = cases.labels
        self.patients = cases.table[list(PATIENT_KEYS)].to_numpy(np.float32)

    def __len__(self) -> int:
        return len(self.uids)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        volume, centre = self._read(number)
        return self._item(number, cut(volume, centre, self.config.input.shape), self.labels[number])

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A volume, and the voxel that the middle of the input shows."""
        data_dir, uid = self.cases.data_dir, self.uids[number]
        volume = read_volume(data_dir, uid)
        z_mm = read_geometry(data_dir, uid)["spacing_mm"][0]
        return volume, seen_centre(volume.shape, z_mm, self.config.input)

    def _item(self, number: int, image: np.ndarray, labels: np.ndarray) -> dict[str, Tensor]:
        inputs = model_inputs(image, self.patients[number])
        return inputs | {"labels14": torch.tensor(labels), "number": torch.tensor(number)}


class TrainingVolumes(PlainVolumes):
    """As many volumes an epoch as there are series; items are asked for by (epoch, sample), and depend on these and
    the seed alone.

    Each series once or, balanced, drawn anew.
    """

    def __init__(self, cases: Cases, config: Volume3dConfig):
        super().__init__(cases, config)
        self.chance = balanced_chances(self.labels) if config.sampling.balanced else None

    def name_of(self, key: tuple[int, int]) -> str:
        """The SeriesInstanceUID of an item."""
        return self.uids[self._drawn(key)[0]]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        number, rng = self._drawn(key)
        volume, centre = self._read(number)
        shift = self.config.sampling.crop_shift
        centre = centre + rng.integers(-np.array(shift), np.array(shift) + 1)
        shape, labels = self.config.input.shape, self.labels[number]
        return self._item(number, *augmented(volume, labels, centre, shape, self.config.augment, rng))

    def _drawn(self, key: tuple[int, int]) -> tuple[int, np.random.Generator]:
        """The row of an item, and the random numbers that it is changed by."""
        rng = np.random.default_rng([self.config.training.seed, SAMPLE_STREAM, *key])
        return (key[1] if self.chance is None else int(rng.choice(len(self), p=self.chance))), rng


def model_inputs(image: np.ndarray, patient: Sequence[float]) -> dict[str, Tensor]:
    """What the model takes: an image (slices, rows, columns) float32, and numbers in the order of PATIENT_KEYS."""
    numbers = {key: torch.tensor(float(value)) for key, value in zip(PATIENT_KEYS, patient, strict=True)}
    return {"image": torch.from_numpy(image)[None]} | numbers


def balanced_chances(labels: np.ndarray) -> np.ndarray:
    """(series,) adding up to 1: series with an aneurysm are half of what is drawn, each location alike among them.

    labels (series, 14). A series with several aneurysms counts for each; one that is positive without a location
    counts like a location of its own. Without either kind, all series alike.
    """
    positive = np.nan_to_num(labels) == 1
    ill = positive.any(axis=1)
    if ill.all() or not ill.any():
        return np.full(len(labels), 1 / len(labels))
    kinds = np.column_stack([positive[:, : len(LABELS) - 1], ill & ~positive[:, :-1].any(axis=1)]).astype(float)
    kinds = kinds[:, kinds.any(axis=0)]
    chance = np.where(ill, 0, 0.5 / (~ill).sum())
    return chance + 0.5 * (kinds / kinds.sum(axis=0)).mean(axis=1)
