"""Datasets: whole volumes for evaluation, augmented volumes and parts of volumes for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aneurysm.cache.vessel_masks import in_blocks
from aneurysm.folds.targets import RIM, ball_target, labels_of, shown_locations
from aneurysm.labels import LABELS, LOCATIONS, MIRROR
from aneurysm.training.losses import UNKNOWN
from volume3d.augment import augmented, recontrasted
from volume3d.cases import Cases
from volume3d.config import Volume3dConfig
from volume3d.crop import around, box_at, cut, first_voxel, place_mm, seen_centre
from volume3d.localizers import LocalizerPoints
from volume3d.patient import PATIENT_KEYS
from volume3d.volume import read_geometry, read_vessels, read_volume

NO_LOCALIZERS = LocalizerPoints(np.empty((0, 3)), np.empty(0, int))
SAMPLE_STREAM = 1  # separates the random numbers of the samples from those of their order


class EvalVolumes(Dataset):
    """Each series of `cases` once, in their order; all of them must have a volume.

    An item: image (1, slices, rows, columns) float32 in [0, 1], labels (14,) (NaN where unknown), age, sex, weight and
    whether each is known (PATIENT_KEYS), number (its row); with net.dense also place_mm and spacing_mm (3,). Raises
    ValueError naming a damaged file.
    """

    def __init__(self, cases: Cases, config: Volume3dConfig):
        self.cases, self.config = cases, config
        self.uids = cases.table.SeriesInstanceUID.tolist()
        self.labels = cases.labels
        self.patients = cases.table[list(PATIENT_KEYS)].to_numpy(np.float32)

    def __len__(self) -> int:
        return len(self.uids)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        inputs = whole_inputs(*self._read(number), self.patients[number], self.config)
        return inputs | {"labels": torch.tensor(self.labels[number]), "number": torch.tensor(number)}

    def _read(self, number: int) -> tuple[np.ndarray, tuple[float, float, float]]:
        """A volume and its spacing_mm."""
        data_dir, uid = self.cases.data_dir, self.uids[number]
        return read_volume(data_dir, uid), read_geometry(data_dir, uid)["spacing_mm"]


class TrainingVolumes(EvalVolumes):
    """Augmented boxes of volumes; an item depends only on its key (epoch, sample) and the seed.

    An epoch has as many samples as there are series: each series once or, if balanced, series drawn at random.
    """

    def __init__(self, cases: Cases, config: Volume3dConfig):
        super().__init__(cases, config)
        self.chance = balanced_chances(self.labels) if config.sampling.balanced else None

    def name_of(self, key: tuple[int, int]) -> str:
        """The SeriesInstanceUID of an item."""
        return self.uids[self._drawn(key)[0]]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        number, rng = self._drawn(key)
        volume, spacing_mm = self._read(number)
        shift = self.config.sampling.crop_shift
        centre = seen_centre(volume.shape, spacing_mm[0], self.config.input)
        centre = centre + rng.integers(-np.array(shift), np.array(shift) + 1)
        shape, labels = self.config.input.shape, self.labels[number]
        image, labels = augmented(volume, labels, centre, shape, self.config.augment, rng)
        inputs = model_inputs(image, self.patients[number])
        return inputs | {"labels": torch.tensor(labels), "number": torch.tensor(number)}

    def _drawn(self, key: tuple[int, int]) -> tuple[int, np.random.Generator]:
        """The row of an item, and the random generator for its augmentation."""
        rng = np.random.default_rng([self.config.training.seed, SAMPLE_STREAM, *key])
        return (key[1] if self.chance is None else int(rng.choice(len(self), p=self.chance))), rng


def model_inputs(image: np.ndarray, patient: Sequence[float]) -> dict[str, Tensor]:
    """The model's inputs from an image (slices, rows, columns) float32 and numbers in the order of PATIENT_KEYS."""
    numbers = {key: torch.tensor(float(value)) for key, value in zip(PATIENT_KEYS, patient, strict=True)}
    return {"image": torch.from_numpy(image)[None]} | numbers


class TrainingParts(TrainingVolumes):
    """Parts of volumes with targets for each cell, from localizers and vessel masks, for net.dense.

    Besides image, patient and number, an item has labels of what the part shows (NaN where unknown), sac and vessels
    (uint8, one number per cell, as in PhantomPart; UNKNOWN vessels without a mask), place_mm and spacing_mm.
    """

    def __init__(self, cases: Cases, config: Volume3dConfig, localizers: dict[str, LocalizerPoints]):
        super().__init__(cases, config)
        self.localizers = localizers

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        number, rng = self._drawn(key)
        uid, shape, config = self.uids[number], self.config.sampling.part, self.config
        volume, spacing_mm = self._read(number)
        localizers = self.localizers.get(uid, NO_LOCALIZERS)
        middle = rng.uniform(0, volume.shape)
        if len(localizers.voxels) and rng.random() < 0.5:
            middle = around(localizers.voxels[rng.integers(len(localizers.voxels))], shape, rng)
        first = first_voxel(middle, volume.shape, shape)
        mirror = rng.random() < config.augment.mirror_p
        image = recontrasted(box_at(volume, first, shape).astype(np.float32), config.augment, rng)
        sac, vessels = self._cells(uid, localizers, first, spacing_mm)
        if not len(localizers.voxels) and self.labels[number, -1] != 0:
            sac[:] = RIM  # there may be an aneurysm, at an unknown place
        inputs = model_inputs(image, self.patients[number]) | {
            "sac": torch.from_numpy(sac), "vessels": torch.from_numpy(vessels), "number": torch.tensor(number),
            "labels": torch.from_numpy(labels_of(shown_locations(sac))),
            "place_mm": torch.from_numpy(place_mm(first, volume.shape, spacing_mm)),
            "spacing_mm": torch.tensor(spacing_mm, dtype=torch.float32),
        }  # fmt: skip
        if (sac == RIM).all():
            inputs["labels"][:] = torch.nan
        return mirrored_part(inputs) if mirror else inputs

    def _cells(
        self, uid: str, localizers: LocalizerPoints, first: np.ndarray, spacing_mm
    ) -> tuple[np.ndarray, np.ndarray]:
        """`sac` and `vessels` of a part."""
        sampling, stride = self.config.sampling, self.config.net.stride
        counts = tuple(n // stride for n in sampling.part)
        where = localizers.voxels - first, localizers.locations
        sac = ball_target(*where, spacing_mm, counts, stride, sampling.ball_mm, sampling.rim_mm)
        vessels = read_vessels(self.cases.data_dir, uid)
        if vessels is None:
            return sac, np.full(counts, UNKNOWN, np.uint8)
        return sac, in_blocks(box_at(vessels, first, sampling.part), stride)


def mirrored_place(place_mm: Tensor, spacing_mm: Tensor, n_columns: int) -> Tensor:
    """(..., 3) place_mm of images with `n_columns` columns after left and right are swapped."""
    place = place_mm.clone()
    place[..., 2] = -(place[..., 2] + (n_columns - 1) * spacing_mm[..., 2])
    return place


def mirrored_part(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """A part with left and right swapped in its image, cells, labels and position."""
    swapped = torch.arange(256, dtype=torch.uint8)
    swapped[1 : len(LOCATIONS) + 1] = 1 + torch.tensor(MIRROR[: len(LOCATIONS)], dtype=torch.uint8)
    place = mirrored_place(part["place_mm"], part["spacing_mm"], part["image"].shape[3])
    cells = {name: swapped[part[name].long()].flip(2) for name in ("sac", "vessels")}
    labels = part["labels"][list(MIRROR)]
    return part | cells | {"image": part["image"].flip(3), "labels": labels, "place_mm": place}


def whole_inputs(
    volume: np.ndarray, spacing_mm: Sequence[float], patient: Sequence[float], config: Volume3dConfig
) -> dict[str, Tensor]:
    """The model's inputs to predict a series: the box of `config.input` or, with net.dense, the whole volume.

    With net.dense also its place_mm and spacing_mm (3,).
    """
    if not config.net.dense:
        box = cut(volume, seen_centre(volume.shape, spacing_mm[0], config.input), config.input.shape)
        return model_inputs(box, patient)
    spacing = np.asarray(spacing_mm, np.float32)
    places = {"place_mm": place_mm((0, 0, 0), volume.shape, spacing), "spacing_mm": spacing}
    return model_inputs(np.asarray(volume, np.float32), patient) | {n: torch.from_numpy(a) for n, a in places.items()}


def balanced_chances(labels: np.ndarray) -> np.ndarray:
    """(series,) probabilities that draw a series with an aneurysm half of the time, and all locations equally often.

    labels (series, 14). A series with several aneurysms counts for each of them; a positive one without a location
    counts as one more location. If all series are positive or none is, all are equally probable.
    """
    positive = np.nan_to_num(labels) == 1
    ill = positive.any(axis=1)
    if ill.all() or not ill.any():
        return np.full(len(labels), 1 / len(labels))
    kinds = np.column_stack([positive[:, : len(LABELS) - 1], ill & ~positive[:, :-1].any(axis=1)]).astype(float)
    kinds = kinds[:, kinds.any(axis=0)]
    chance = np.where(ill, 0, 0.5 / (~ill).sum())
    return chance + 0.5 * (kinds / kinds.sum(axis=0)).mean(axis=1)
