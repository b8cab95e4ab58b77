"""Intensity of each tissue, drawn for each scan: Hounsfield units in CTA, signal of arbitrary gain in MR."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aneurysm.labels import MODALITIES


@dataclass(frozen=True)
class Contrast:
    """Tissue intensities of one scan, in HU or MR signal, and image quality.

    artery      arteries at the bottom of each slab (a scan without slabs is one)
    artery_low  arteries at its top
    chalk       calcifications
    sac_mixing  fraction of the signal that the core of a large sac loses to slow flow; negative: gains
    noise       SD, in image units
    blur_mm     SD of the scanner's blur
    bias        about the largest deviation of the MR bias field from 1
    texture     SD of the brain's texture, in image units
    slabs       number of stacked TOF slabs; blood saturates in each
    """

    air: float
    skin: float
    fat: float
    muscle: float
    bone: float
    marrow: float
    petrous: float
    fluid: float
    grey: float
    white: float
    dura: float
    eye: float
    mucosa: float
    artery: float
    artery_low: float
    vein: float
    chalk: float
    sac_mixing: float
    noise: float
    blur_mm: float
    bias: float
    texture: float
    slabs: int = 1


TYPICAL = {
    "CTA": Contrast(
        air=-1000, skin=20, fat=-95, muscle=60, bone=1050, marrow=420, petrous=1550, fluid=6, grey=39, white=30,
        dura=85, eye=8, mucosa=40, artery=350, artery_low=350, vein=250, chalk=850, sac_mixing=0.0, noise=15,
        blur_mm=0.38, bias=0.0, texture=1.5,
    ),
    "MRA": Contrast(
        air=0, skin=75, fat=70, muscle=72, bone=14, marrow=38, petrous=10, fluid=42, grey=100, white=106,
        dura=70, eye=45, mucosa=85, artery=430, artery_low=330, vein=62, chalk=20, sac_mixing=0.35, noise=5.5,
        blur_mm=0.35, bias=0.2, texture=3.0,
    ),
    "MRI T2": Contrast(
        air=0, skin=150, fat=290, muscle=75, bone=14, marrow=150, petrous=12, fluid=440, grey=200, white=150,
        dura=40, eye=430, mucosa=380, artery=8, artery_low=14, vein=40, chalk=8, sac_mixing=0.0, noise=6.0,
        blur_mm=0.35, bias=0.2, texture=5.0,
    ),
    "MRI T1post": Contrast(
        air=0, skin=230, fat=330, muscle=125, bone=18, marrow=190, petrous=14, fluid=48, grey=128, white=160,
        dura=300, eye=55, mucosa=320, artery=390, artery_low=370, vein=400, chalk=15, sac_mixing=0.1, noise=5.0,
        blur_mm=0.4, bias=0.2, texture=3.0,
    ),
}  # fmt: skip


def draw_contrast(rng: np.random.Generator, modality: str) -> Contrast:
    """Draws the tissue intensities of one scan: bolus timing in CTA, sequence settings in MR.

    Raises ValueError if `modality` is not one of MODALITIES."""
    if modality not in MODALITIES:
        raise ValueError(f"expected one of {MODALITIES}, found {modality!r}")
    typical = TYPICAL[modality]
    if modality == "CTA":
        artery = rng.uniform(265, 435)
        return replace(
            typical, artery=artery, artery_low=artery - rng.uniform(0, 20), vein=artery - rng.uniform(50, 150),
            noise=rng.uniform(10, 20), blur_mm=rng.uniform(0.25, 0.5), bone=rng.uniform(900, 1200),
            dura=rng.uniform(60, 110),
        )  # fmt: skip
    values = {
        name: getattr(typical, name) * float(np.exp(rng.normal(0, spread)))
        for name, spread in (
            ("skin", 0.1), ("fat", 0.15), ("muscle", 0.06), ("fluid", 0.05), ("grey", 0.03), ("white", 0.03),
            ("dura", 0.15), ("vein", 0.12), ("marrow", 0.2), ("artery", 0.07), ("mucosa", 0.15),
        )
    }  # fmt: skip
    low = values["artery"] * (rng.uniform(0.7, 0.95) if modality == "MRA" else typical.artery_low / typical.artery)
    slabs = int(rng.integers(1, 5)) if modality == "MRA" else 1
    noise, blur = typical.noise * rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.5)
    return replace(
        typical, **values, artery_low=low, noise=noise, blur_mm=blur, bias=rng.uniform(0.05, 0.2), slabs=slabs
    )
