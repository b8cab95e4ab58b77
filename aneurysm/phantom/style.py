"""A style: the functions that draw heads, sacs and scans. Models are trained on the usual and the varied style."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aneurysm.phantom.contrast import Contrast, draw_contrast
from aneurysm.phantom.fields import HeadFields
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.mimics import draw_mimics
from aneurysm.phantom.noise import Noise
from aneurysm.phantom.sacs import BuildSac, build_sac
from aneurysm.phantom.shape import HeadShape, draw_shape
from aneurysm.phantom.vessels import Vessel

Rng = np.random.Generator


@dataclass(frozen=True)
class Style:
    """What differs between styles; the anatomy table, acquisitions and files are common to all.

    shape    draws the size and shape of a head
    mimics   adds look-alikes of aneurysms to the vessel tree, in place; returns `Person.cones` and `Person.chalk`
    sac      builds a sac of a given diameter at its site
    contrast draws the tissue intensities of one scan of a modality
    fields   computes the tissue borders and textures of a head
    noise    draws the scanner's blur, noise and artefacts on a grid
    """

    shape: Callable[[Rng], HeadShape] = draw_shape
    mimics: Callable[[Rng, dict[str, Vessel], HeadShape], tuple[np.ndarray, np.ndarray]] = draw_mimics
    sac: BuildSac = build_sac
    contrast: Callable[[Rng, str], Contrast] = draw_contrast
    fields: Callable[[HeadShape], HeadFields] = HeadFields
    noise: Callable[[Rng, str, Grid], Noise] = Noise


USUAL = Style()
