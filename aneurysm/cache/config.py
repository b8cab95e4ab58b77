"""Settings of the cache and of windows; a file without heavy imports, so that --help is fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VIEWS = ("original", "mirror")
Storage = Literal["float16", "blosc2"]


@dataclass(frozen=True)
class CacheSettings:
    """The settings that change the content of the cache; ValueError if they are invalid.

    head_mm         millimetres of the head to keep, from its top; 0 keeps all
    window_low_hu   CT: Hounsfield units that become 0
    window_high_hu  CT: Hounsfield units that become 1
    """

    head_mm: float = 180.0
    window_low_hu: float = 0.0
    window_high_hu: float = 600.0

    def __post_init__(self) -> None:
        if not self.head_mm >= 0 or not self.window_low_hu < self.window_high_hu:
            raise ValueError(
                "expected head_mm of at least 0 and window_low_hu below window_high_hu, "
                f"found {self.head_mm:g}, {self.window_low_hu:g} and {self.window_high_hu:g}"
            )


@dataclass(frozen=True)
class InputConfig:
    """How the encoder's input is made from the cache; the same in training and prediction."""

    image_size: int = 448
    """rows and columns of the encoder's input"""
    crop: tuple[float, float, float, float] = (0.14, 0.86, 0.12, 0.82)
    """the vessel region of axial slices: left, right, top, bottom as fractions of the cached image"""
    crop_upright: tuple[float, float, float, float] = (0.1, 0.9, 0.2, 1.0)
    """the same for coronal and sagittal slices"""
    n_slices: int = 3
    """slices of a window, an odd number: the central one, and as many below as above"""
    neighbour_mm: float = 2.0
    """distance between neighbouring slices of a window, in millimetres"""
