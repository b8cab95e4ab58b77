"""Settings of the phantoms: people, scans, augmentation, windows; no heavy imports, so that --help is fast."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from aneurysm.labels import LOCATIONS

FIRST_SEED = 1_000_000  # training uses seeds from here on; seeds below 100,000 are for evaluation


@dataclass(frozen=True)
class LooksConfig:
    """Looks: intensity augmentation of training images (looks.py), how often and how strong."""

    share: float = 0.7
    """fraction of the images that are changed; 0 for none"""
    each: float = 0.2
    """probability of each change in these images"""
    strength: float = 1.0
    """maximum strength of a change; each is drawn from 0 to this"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        for name in ("share", "each"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"looks.{name}: expected 0 to 1, found {getattr(self, name)}")
        if self.strength < 0:
            raise ValueError(f"looks.strength: expected 0 or more, found {self.strength}")


@dataclass(frozen=True)
class PhantomScansConfig:
    """People and their scans."""

    sizes: tuple[int, ...] = (256, 384, 512)
    """matrix sizes, as make_phantoms.py --size; one is drawn for each scan"""
    scans_per_person: int = 4
    """scans per person; each draws its own aneurysms, modality, plane and scanner"""
    sacs: int = 6
    """aneurysms drawn for each scan"""
    ghost_share: float = 1 / 3
    """fraction of them that is removed again, so that the place alone tells nothing"""
    varied_share: float = 0.75
    """fraction of people in the varied style (varied.py); the others are of the usual one"""
    pose: float = 1.5
    """head rotation, as a multiple of that in make_phantoms.py"""
    looks: LooksConfig = field(default_factory=LooksConfig)
    """image changes on top of the style"""
    uses: int = 1
    """how often each sample is trained on: each time its intensities are changed anew, every second time it is
    mirrored"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        if self.scans_per_person < 1:
            raise ValueError(f"phantoms.scans_per_person: expected 1 or more, found {self.scans_per_person}")
        if self.uses < 1:
            raise ValueError(f"phantoms.uses: expected at least 1, found {self.uses}")
        if not 0 <= self.sacs <= len(LOCATIONS):
            raise ValueError(f"phantoms.sacs: expected 0 to {len(LOCATIONS)}, found {self.sacs}")
        for name in ("ghost_share", "varied_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"phantoms.{name}: expected 0 to 1, found {getattr(self, name)}")
        if min(self.sizes, default=0) < 32:
            raise ValueError(f"phantoms.sizes: expected sizes from 32 on, found {self.sizes}")


@dataclass(frozen=True)
class PhantomWindowsConfig(PhantomScansConfig):
    """Windows of a scan, from a few slabs of neighbouring slices; each slab is rendered once."""

    part: int = 0
    """crop size in pixels of the encoder's input, a multiple of the heatmap stride; 0 uses whole inputs, as prediction
    does"""
    slabs_per_sac: int = 1
    """slabs through each aneurysm, or through the place of one that was removed"""
    free_slabs: int = 2
    """slabs at vessels or anywhere else in the series"""
    windows_per_slab: int = 1
    """windows per slab: the first at its aneurysm, the others at vessels or anywhere; 1 for whole inputs"""
    mined_of: int = 1
    """hard negative mining: keep the hardest of so many free slabs, by pretraining.mining_weights; whole inputs only"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        super().__post_init__()
        if self.windows_per_slab < 1 or not self.windows_per_scan:
            raise ValueError(f"phantoms: expected slabs, and windows of each, found {self}")
        if self.part < 0 or (self.part == 0 and self.windows_per_slab > 1):
            found = f"{self.windows_per_slab} of {self.part} pixels"
            raise ValueError(f"phantoms.part: expected a whole input (0) once a slab, or windows of it, found {found}")
        if self.mined_of < 1 or (self.mined_of > 1 and self.part):
            raise ValueError(f"phantoms.mined_of: expected 1, or more of whole inputs (part 0), found {self.mined_of}")

    @property
    def windows_per_scan(self) -> int:
        return (self.sacs * self.slabs_per_sac + self.free_slabs) * self.windows_per_slab * self.uses


@dataclass(frozen=True)
class PhantomConfig:
    """Settings of make_phantoms.py."""

    out: str = "data"
    """folder for series/, segmentations/, train.csv, train_localizers.csv and truth.csv"""
    n_series: int = 96
    """number of series, with modalities and planes in the competition's proportions"""
    seed: int = 0
    """random seed; the same seed gives the same bytes, with any number of workers"""
    workers: int = os.cpu_count() or 1
    """number of processes, each with one thread"""
    size: int = 256
    """matrix size, 512 in the competition; the field of view stays, and thin slices become 512 / size times thicker"""
    clean: bool = False
    """no quirks: single-frame uncompressed files with complete geometry and rescale tags"""
    balanced: bool = False
    """half of the series positive and all 13 locations equally frequent, instead of the competition's prevalence"""
    style: Literal["usual", "varied", "held_out"] = "usual"
    """varied: a wide range of heads and scans, as in pretraining (varied.py); held_out: another recipe (held_out.py),
    to test on what no model was trained on"""

    def __post_init__(self) -> None:
        for name, least in (("n_series", 1), ("workers", 1), ("size", 32)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, found {getattr(self, name)}")
