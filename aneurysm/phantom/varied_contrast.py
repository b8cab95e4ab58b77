"""Tissue intensities of the varied style: wide, overlapping ranges, as from many scanners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aneurysm.phantom.contrast import TYPICAL, Contrast, draw_contrast

USUAL_SHARE = 0.4  # share of scans with the tissue values of the usual style
# Hounsfield units, SDs, or mm. `artery_low` and `vein` are factors of `artery`; `white` is below `grey`.
CTA_RANGES = dict(
    skin=(0, 60), fat=(-125, -65), muscle=(35, 85), bone=(600, 1500), marrow=(150, 650), petrous=(1100, 2000),
    fluid=(-2, 16), grey=(32, 48), white=(3, 14), dura=(40, 170), eye=(2, 25), mucosa=(20, 95), artery=(180, 600),
    artery_low=(0.75, 1.0), vein=(0.15, 1.15), chalk=(200, 1400), sac_mixing=(0.0, 0.3), blur_mm=(0.2, 0.75),
    texture=(1, 4),
)  # fmt: skip
# Factors on the typical MR values; those of blood follow below.
MR_FACTORS = dict(
    skin=(0.5, 2.0), fat=(0.3, 2.0), muscle=(0.5, 1.6), bone=(0.4, 2.5), marrow=(0.4, 2.2), petrous=(0.4, 2.5),
    fluid=(0.5, 1.6), grey=(0.7, 1.4), dura=(0.4, 1.8), eye=(0.5, 1.7), mucosa=(0.5, 1.8), chalk=(0.4, 2.5),
    noise=(0.25, 2.5), texture=(0.4, 2.2),
)  # fmt: skip
WHITE = {"MRA": (0.85, 1.25), "MRI T2": (0.5, 0.95), "MRI T1post": (0.95, 1.45)}  # factors of grey
FREE_SHARE = 0.25  # share of these MR scans with random values but for brain and blood (SynthSeg, Billot et al. 2023)
FREE = "skin", "fat", "muscle", "bone", "marrow", "petrous", "fluid", "dura", "eye", "mucosa", "chalk"
BRIGHT_CHALK = 0.25  # share of MR scans in which calcium is bright, as where it shortens T1


def draw_varied_contrast(rng: np.random.Generator, modality: str) -> Contrast:
    """Draws the tissue values of one scan. Raises ValueError if `modality` is not one of MODALITIES."""
    if modality not in TYPICAL or rng.random() < USUAL_SHARE:
        return draw_contrast(rng, modality)
    return draw_cta(rng) if modality == "CTA" else draw_mr(rng, modality)


def draw_cta(rng: np.random.Generator) -> Contrast:
    """CTA: any bolus timing, from arteries only to veins that are brighter; any dose and kernel."""
    values = {name: float(rng.uniform(*ends)) for name, ends in CTA_RANGES.items()}
    values["noise"] = factor(rng, 4, 28)
    values["white"] = values["grey"] - values["white"]
    values["artery_low"] *= values["artery"]
    values["vein"] *= values["artery"]
    return replace(TYPICAL["CTA"], **values)


def draw_mr(rng: np.random.Generator, modality: str) -> Contrast:
    """MR: any sequence settings of a modality."""
    typical = TYPICAL[modality]
    values = {name: getattr(typical, name) * factor(rng, *ends) for name, ends in MR_FACTORS.items()}
    values["white"] = values["grey"] * rng.uniform(*WHITE[modality])
    if rng.random() < FREE_SHARE:
        values |= {name: values["grey"] * factor(rng, 0.08, 3.0) for name in FREE}
    values |= {"MRA": draw_tof_blood, "MRI T2": draw_t2_blood, "MRI T1post": draw_t1_blood}[modality](rng, values)
    if modality != "MRI T2" and rng.random() < BRIGHT_CHALK:
        values["chalk"] = values["artery"] * rng.uniform(0.2, 1.0)
    slabs = int(rng.integers(1, 8)) if modality == "MRA" else 1
    values = {name: float(value) for name, value in values.items()}
    return replace(typical, **values, blur_mm=rng.uniform(0.2, 0.75), bias=rng.uniform(0, 0.4), slabs=slabs)


def draw_tof_blood(rng: np.random.Generator, values: dict[str, float]) -> dict[str, float]:
    """MRA: arteries brighter than brain, and veins saturated; in some scans only slightly."""
    artery = max(values["grey"], values["white"]) * (factor(rng, 1.7, 6.0) if rng.random() < 0.9 else 1.4)
    vein = artery * (factor(rng, 0.08, 0.35) if rng.random() < 0.7 else rng.uniform(0.35, 1.0))
    return dict(artery=artery, artery_low=artery * rng.uniform(0.5, 1), vein=vein, sac_mixing=rng.uniform(0, 0.6))


def draw_t2_blood(rng: np.random.Generator, values: dict[str, float]) -> dict[str, float]:
    """T2: flow voids, in some scans bright arteries; large sacs with slow flow are brighter."""
    artery = factor(rng, 4, 40) if rng.random() < 0.8 else rng.uniform(0.2, 1.1) * values["grey"]
    slow = rng.uniform(-3, 0) if rng.random() < 0.5 else 0.0
    return dict(artery=artery, artery_low=artery * rng.uniform(0.7, 1.5), vein=factor(rng, 8, 180), sac_mixing=slow)


def draw_t1_blood(rng: np.random.Generator, values: dict[str, float]) -> dict[str, float]:
    """T1 after contrast: arteries and veins enhance, either of them more."""
    artery = max(values["grey"], values["white"]) * factor(rng, 1.3, 3.5)
    vein = artery * rng.uniform(0.6, 1.6)
    return dict(artery=artery, artery_low=artery * rng.uniform(0.8, 1), vein=vein, sac_mixing=rng.uniform(0, 0.35))


def factor(rng: np.random.Generator, low: float, high: float) -> float:
    """A log-uniform value between two positive bounds."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
