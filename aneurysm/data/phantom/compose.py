"""From tissue borders to one image slice without noise: tissues laid over one another, from the outside inwards."""

from __future__ import annotations

import numpy as np

from aneurysm.data.phantom.contrast import Contrast
from aneurysm.data.phantom.distance import step


def over(image: np.ndarray, share: np.ndarray, value) -> np.ndarray:
    """The image with a tissue laid over it where its share (0 to 1) is."""
    image += share * (value - image)
    return image


def compose(fields: dict[str, np.ndarray], contrast: Contrast, width_mm: float) -> np.ndarray:
    """float32 (rows, cols) of one slice; borders are `width_mm` wide."""

    def inside(name: str, inset_mm: float = 0.0) -> np.ndarray:
        return step(fields[name] - np.float32(inset_mm), width_mm)

    image = np.full(fields["skin"].shape, contrast.air, np.float32)
    soft = np.full_like(image, contrast.muscle) + np.float32(2.0 * contrast.texture) * fields["texture"]
    over(soft, inside("fat"), contrast.fat)
    over(soft, step(1.8 - fields["skin"], width_mm), contrast.skin)
    over(soft, inside("cord"), contrast.muscle)
    over(soft, inside("eye"), contrast.eye)
    bone = bone_value(fields, contrast)
    over(soft, inside("bone"), bone)
    over(soft, inside("cavity"), brain_value(fields, contrast, inside))
    over(soft, inside("dura") * step(fields["cavity"] + 1.0, 2.0), contrast.dura)
    over(image, inside("skin"), soft)
    air = fields["air"]
    over(
        image,
        step(air + 1.2, width_mm) * inside("skin"),
        contrast.mucosa * step(1.5 - fields["bone"], 3) + bone * step(fields["bone"] - 1.5, 3),
    )
    over(image, inside("air"), contrast.air)
    canal = fields["canal"]
    over(image, step(canal + 2.2, width_mm) * step(air + 1, 2), contrast.bone * 0.6)
    over(image, step(canal + 0.7, width_mm), contrast.muscle)
    # Arteries of the brain's base run in fluid, also where the brain or the bone of another head would be.
    over(image, step(fields["cistern"], 1.5 * width_mm) * step(fields["cavity"] + 3, 4), contrast.fluid)
    return image


def bone_value(fields: dict[str, np.ndarray], contrast: Contrast) -> np.ndarray:
    """Compact bone outside, marrow in the middle of thick bones, dense rock and teeth."""
    depth = np.maximum(fields["bone"], fields["shell_depth"])
    marrow = step(depth - 2.0 + 0.5 * fields["marrow"], 1.6)
    value = contrast.bone + marrow * (contrast.marrow - contrast.bone)
    return over(value, step(fields["dense"] + 1, 2.5), contrast.petrous)


def brain_value(fields: dict[str, np.ndarray], contrast: Contrast, inside) -> np.ndarray:
    """Fluid, cortex, white matter, ventricles."""
    value = np.full_like(fields["skin"], contrast.fluid)
    tissue = np.full_like(value, contrast.grey)
    white = np.minimum(fields["white"], fields["sulci"] - 3.0)
    over(tissue, step(white, 1.2), contrast.white)
    tissue += contrast.texture * fields["texture"]
    over(value, inside("brain") * inside("sulci"), tissue)
    return over(value, inside("fluid"), contrast.fluid)
