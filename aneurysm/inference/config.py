"""Settings of the inference from DICOM on held-out series; a module without heavy imports, for a quick --help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aneurysm.training.config import InferenceConfig


@dataclass(frozen=True)
class HeldOutConfig(InferenceConfig):
    """Settings of the inference on held-out series."""

    tta: Literal["mirror", "none"] = "mirror"
    """mirror: also predict the mirrored head, if stage 2 was configured for it; none: half the time"""
    header_modality: bool = True
    """give stage 2 the modality of the header, as for a hidden series; false gives it that of train.csv"""
    limit: int = 0
    """maximum number of series of each fold; 0: all"""
    device: str = "auto"
    """cpu, cuda, or auto"""
