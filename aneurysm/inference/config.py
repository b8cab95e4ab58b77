"""How held-out series are predicted from DICOM; apart from what does it, for a quick --help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aneurysm.training.config import InferenceConfig


@dataclass(frozen=True)
class HeldOutConfig(InferenceConfig):
    """How held-out series are predicted."""

    tta: Literal["mirror", "none"] = "mirror"
    """mirror: also ask about the mirrored head, where stage 2 was configured to; none: half the time"""
    header_modality: bool = True
    """tell stage 2 what the header says of the modality, as with a hidden series; false tells it what train.csv says"""
    limit: int = 0
    """at most so many series of each fold; 0 takes all"""
    device: str = "auto"
    """cpu, cuda, or auto"""
