"""Which endless phantoms are drawn: people, scans, looks, windows. Apart from what draws them, for a quick --help."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from aneurysm.labels import LOCATIONS

FIRST_SEED = 1_000_000  # training draws from here on; seeds below 100,000 are for evaluation


@dataclass(frozen=True)
class LooksConfig:
    """How often and how far the look of training images is changed."""

    share: float = 0.7
    """share of the images that are changed at all; 0 leaves all as they are"""
    each: float = 0.2
    """chance of each single change in these"""
    strength: float = 1.0
    """largest strength of a change; each draws its own from 0 on"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        for name in ("share", "each"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"looks.{name}: expected 0 to 1, found {getattr(self, name)}")
        if self.strength < 0:
            raise ValueError(f"looks.strength: expected 0 or more, found {self.strength}")


@dataclass(frozen=True)
class PhantomScansConfig:
    """Which people are drawn, and how they are scanned."""

    sizes: tuple[int, ...] = (256, 384, 512)
    """pixels across a scan, as make_phantoms.py --size; one is drawn for each scan"""
    scans_per_person: int = 4
    """scans of one person, each with sacs, modality, plane and scanner of its own"""
    sacs: int = 6
    """sacs drawn for each scan"""
    ghost_share: float = 1 / 3
    """share of them that is taken away again: their place alone shall tell nothing"""
    varied_share: float = 0.75
    """share of the people that are drawn in the varied style (varied.py), the others in the usual one"""
    pose: float = 1.5
    """how far heads are turned, as a multiple of what make_phantoms.py draws"""
    looks: LooksConfig = field(default_factory=LooksConfig)
    """what is done to the images beyond what the styles draw"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        if self.scans_per_person < 1:
            raise ValueError(f"phantoms.scans_per_person: expected 1 or more, found {self.scans_per_person}")
        if not 0 <= self.sacs <= len(LOCATIONS):
            raise ValueError(f"phantoms.sacs: expected 0 to {len(LOCATIONS)}, found {self.sacs}")
        for name in ("ghost_share", "varied_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"phantoms.{name}: expected 0 to 1, found {getattr(self, name)}")
        if min(self.sizes, default=0) < 32:
            raise ValueError(f"phantoms.sizes: expected sizes from 32 on, found {self.sizes}")


@dataclass(frozen=True)
class PhantomWindowsConfig(PhantomScansConfig):
    """Which windows are drawn. A scan's windows lie in a few slabs, neighbouring slices that are rendered once."""

    part: int = 0
    """rows and columns of a window, in pixels of the encoder's input; a multiple of the maps' stride. 0: whole inputs,
    which is how the encoder is asked afterwards"""
    slabs_per_sac: int = 1
    """slabs that cut a sac, or the place that had one"""
    free_slabs: int = 2
    """slabs anywhere in the series"""
    windows_per_slab: int = 1
    """windows of a slab: the first at its sac, the others at vessels and anywhere; 1 for whole inputs"""
    mined_of: int = 1
    """each slab anywhere is the hardest of so many, by the network of pretraining.mining_weights; whole inputs alone"""

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
        return (self.sacs * self.slabs_per_sac + self.free_slabs) * self.windows_per_slab


@dataclass(frozen=True)
class PhantomConfig:
    """What make_phantoms.py makes."""

    out: str = "data"
    """folder for series/, segmentations/, train.csv, train_localizers.csv and truth.csv"""
    n_series: int = 96
    """number of series, dealt out in the competition's shares"""
    seed: int = 0
    """the same seed gives the same bytes, whatever the workers"""
    workers: int = os.cpu_count() or 1
    """processes, one thread each"""
    size: int = 256
    """pixels across where the competition has 512; thin slices are spaced 512 / size wider, extents stay"""
    clean: bool = False
    """leave the quirks out: single-frame uncompressed files with all their geometry and rescale tags"""
    balanced: bool = False
    """half of the series positive and all 13 locations equally frequent, instead of the competition's shares"""
    style: Literal["usual", "varied", "held_out"] = "usual"
    """varied: heads and scans of many kinds, as training draws them (varied.py); held_out: another recipe
    (held_out.py), to test on what no model was trained on"""

    def __post_init__(self) -> None:
        for name, least in (("n_series", 1), ("workers", 1), ("size", 32)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, found {getattr(self, name)}")
