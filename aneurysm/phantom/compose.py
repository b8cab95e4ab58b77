"""Blends tissues into a noise-free image slice, from the outside inwards."""

from __future__ import annotations

import numpy as np

from aneurysm.phantom.contrast import Contrast
from aneurysm.phantom.distance import all_of, any_of, step
from aneurysm.phantom.lattice import Lattice, Window


class Layers:
    """Tissue borders of one slice in a window; each is upsampled to the pixels on first use."""

    def __init__(self, coarse: dict[str, np.ndarray], lattice: Lattice, window: Window, width_mm: float):
        self.coarse, self.lattice, self.window, self.width_mm = coarse, lattice, window, width_mm
        self.fine: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.fine:
            self.fine[name] = self.lattice.enlarge(self.coarse[name], self.window)
        return self.fine[name]

    def inside(self, name: str, margin_mm: float = 0.0, width_mm: float | None = None) -> np.ndarray | None:
        """Fraction (0 to 1) of each pixel in a tissue enlarged by `margin_mm`; None if it is not in the slice."""
        width_mm = width_mm or self.width_mm
        if self.coarse[name].max() + margin_mm < -width_mm:
            return None
        return step(self[name] + np.float32(margin_mm), width_mm)


def over(image: np.ndarray, share: np.ndarray | None, value) -> np.ndarray:
    """Blends `value` into the image in place, with weight `share` (0 to 1; None: no change); returns the image."""
    if share is not None:
        image += share * (value - image)
    return image


def both(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    return None if first is None or second is None else first * second


def compose(layers: Layers, contrast: Contrast, cleft_mm: float) -> np.ndarray:
    """float32 image of the layers' window without blood; pixels outside the head contain tissue too.

    `cleft_mm`: half the width of the interhemispheric fissure. Values are in HU or MR signal.
    """
    skin, inside = layers["skin"], layers.inside
    soft = np.float32(2.0 * contrast.texture) * layers["texture"] + np.float32(contrast.muscle)
    over(soft, inside("fat"), contrast.fat)
    over(soft, step(1.8 - skin, layers.width_mm), contrast.skin)
    over(soft, inside("cord"), contrast.muscle)
    over(soft, inside("eye"), contrast.eye)
    bone = bone_value(layers, contrast)
    over(soft, inside("bone"), bone)
    cavity = inside("cavity")
    if cavity is not None:
        over(soft, cavity, brain_value(layers, contrast, cleft_mm))
        over(soft, both(step(dura_depth(layers), layers.width_mm), inside("cavity", 1.0, 2.0)), contrast.dura)
    air = inside("air", 0.8)
    if air is not None:
        wall = inside("bone", -1.5, 3)
        over(soft, air, contrast.mucosa if wall is None else contrast.mucosa + wall * (bone - contrast.mucosa))
        over(soft, inside("air"), contrast.air)
    if inside("canal", 2.2) is not None:
        over(soft, inside("canal", 2.2) * step(layers["air"] + 1, 2), 0.6 * contrast.bone)
        over(soft, inside("canal", 0.7), contrast.muscle)
    # Arteries at the base of the brain run in CSF; it replaces brain and bone.
    return over(soft, both(inside("cistern", 0.0, 1.5 * layers.width_mm), inside("cavity", 3.0, 4.0)), contrast.fluid)


def bone_value(layers: Layers, contrast: Contrast) -> np.ndarray:
    """Intensity of bone: cortical at the surface, marrow inside thick bones, dense petrous bone and teeth."""
    depth = np.maximum(layers["bone"], layers["shell_depth"]) + 0.5 * layers["marrow"]
    value = contrast.bone + step(depth - 2.0, 1.6) * np.float32(contrast.marrow - contrast.bone)
    return over(value, layers.inside("dense", 1.0, 2.5), contrast.petrous)


def dura_depth(layers: Layers) -> np.ndarray:
    """Signed distance in mm to the dura (skull lining, falx, tentorium), positive inside."""
    falx = np.minimum(0.6 - np.abs(layers["midline"]), layers["falx_zone"])
    tent = np.minimum(0.3 - np.abs(layers["tent"]), layers["tent_zone"])
    return any_of(0.7 - np.abs(layers["cavity"]), falx, tent)


def brain_value(layers: Layers, contrast: Contrast, cleft_mm: float) -> np.ndarray:
    """Intensity in the cranial cavity: CSF, cortex, white matter, ventricles."""
    between = np.maximum(np.abs(layers["midline"]) - np.float32(cleft_mm), -layers["cleft_zone"])
    below = np.maximum(np.abs(layers["tent"]) - np.float32(0.8 * cleft_mm), -layers["tent_zone"])
    sulci = np.maximum(np.abs(layers["folds"]) + layers["fade"], layers["smooth"])
    cleft = all_of(between, below, sulci)
    tissue = np.float32(contrast.texture) * layers["texture"] + np.float32(contrast.grey)
    white = step(np.minimum(layers["white"], cleft - 3.0), 1.2)
    tissue += white * np.float32(contrast.white - contrast.grey)
    value = np.full_like(tissue, contrast.fluid)
    over(value, step(np.minimum(layers["brain"], cleft), layers.width_mm), tissue)
    return over(value, layers.inside("fluid"), contrast.fluid)
