"""Intensity of each tissue in the held-out style: other bolus timing, other sequence settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aneurysm.labels import MODALITIES
from aneurysm.phantom.contrast import TYPICAL, Contrast

# Ranges of each value, outside those of the usual style; in MR, where gain is arbitrary, also relative to grey matter.
# `artery_low` and `vein` are factors on `artery`.
RANGES = {
    "CTA": dict(
        skin=[(0, 12), (28, 40)], fat=[(-122, -106), (-84, -70)], muscle=[(44, 53), (67, 78)],
        bone=[(680, 880), (1230, 1500)], marrow=[(180, 330), (500, 620)], petrous=[(1200, 1420), (1700, 2000)],
        fluid=[(0, 3), (10, 15)], grey=[(42, 46)], white=[(23, 27)], dura=[(118, 160)], eye=[(12, 20)],
        mucosa=[(55, 80)], artery=[(205, 258), (450, 560)], artery_low=[(0.86, 0.93)], vein=[(0.97, 1.12), (0.2, 0.4)],
        chalk=[(320, 620)], sac_mixing=[(0.1, 0.25)], noise=[(5, 8.5), (20.5, 24)], blur_mm=[(0.51, 0.65)],
        texture=[(2.2, 3.2)],
    ),
    "MRA": dict(
        skin=[(40, 52), (104, 130)], fat=[(22, 40), (115, 165)], muscle=[(46, 53), (100, 115)], bone=[(4, 9), (20, 28)],
        marrow=[(14, 22), (65, 100)], petrous=[(3, 6), (16, 24)], fluid=[(14, 30), (56, 68)], grey=[(80, 91)],
        white=[(116, 128)], dura=[(35, 44), (110, 130)], eye=[(18, 32)], mucosa=[(125, 170)],
        artery=[(275, 305), (540, 680)], artery_low=[(0.57, 0.67)], vein=[(0.26, 0.42)], chalk=[(3, 8), (34, 48)],
        sac_mixing=[(0.45, 0.6)], noise=[(1.5, 3.0), (9, 12)], blur_mm=[(0.51, 0.65)], texture=[(3.6, 5.5)],
        bias=[(0.22, 0.35)], slabs=[(1, 7)],
    ),
    "MRI T2": dict(
        skin=[(85, 125), (240, 290)], fat=[(60, 190), (480, 560)], muscle=[(50, 63), (108, 122)],
        bone=[(4, 9), (22, 34)], marrow=[(60, 95), (240, 300)], petrous=[(4, 8), (20, 30)],
        fluid=[(345, 400), (600, 680)], grey=[(216, 240)], white=[(112, 134)], dura=[(60, 85)],
        eye=[(345, 400), (560, 640)], mucosa=[(200, 290), (610, 680)], artery=[(22, 45)], artery_low=[(1.2, 1.5)],
        vein=[(2.2, 3.6)], chalk=[(20, 40)], sac_mixing=[(-1.6, -0.5)], noise=[(1.5, 3.2), (11.5, 14)],
        blur_mm=[(0.51, 0.65)], texture=[(6.5, 10)], bias=[(0.22, 0.35)],
    ),
    "MRI T1post": dict(
        skin=[(100, 145), (235, 280)], fat=[(70, 140), (440, 520)], muscle=[(75, 86), (124, 145)],
        bone=[(5, 11), (26, 38)], marrow=[(60, 95), (225, 280)], petrous=[(4, 9), (22, 32)], fluid=[(20, 32), (48, 62)],
        grey=[(98, 106)], white=[(150, 165)], dura=[(130, 178), (330, 380)], eye=[(25, 40), (70, 90)],
        mucosa=[(140, 182), (350, 420)], artery=[(240, 265), (420, 500)], artery_low=[(0.8, 0.9)],
        vein=[(0.68, 0.78), (1.32, 1.5)], chalk=[(4, 9), (24, 36)], sac_mixing=[(0.2, 0.35)],
        noise=[(1.2, 2.6), (8.5, 11)], blur_mm=[(0.51, 0.65)], texture=[(3.6, 5.5)], bias=[(0.22, 0.35)],
    ),
}  # fmt: skip


def either(rng: np.random.Generator, *ranges: tuple[float, float]) -> float:
    """A value from one of the ranges, which are equally likely."""
    return float(rng.uniform(*ranges[rng.integers(len(ranges))]))


def draw_held_out_contrast(rng: np.random.Generator, modality: str) -> Contrast:
    """Draws the tissue intensities of one scan of a modality."""
    if modality not in MODALITIES:
        raise ValueError(f"expected one of {MODALITIES}, found {modality!r}")
    values = {name: either(rng, *ranges) for name, ranges in RANGES[modality].items()}
    values["artery_low"] *= values["artery"]
    values["vein"] *= values["artery"]
    if "slabs" in values:
        values["slabs"] = int(values["slabs"])
    return replace(TYPICAL[modality], **values)
