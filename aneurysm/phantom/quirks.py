"""Quirks of a series' files: how real DICOM departs from the textbook, as often as in the competition."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

# Share of each modality's series that are one enhanced multi-frame file.
ENHANCED_SHARES = {"CTA": 0.0, "MRA": 157 / 1252, "MRI T2": 165 / 983, "MRI T1post": 0.0}
ENHANCED_FRAMES = (20, 180)


@dataclass(frozen=True)
class Quirks:
    """The defaults are a textbook series; all other values occur in the competition's files."""

    syntax: str = "explicit"
    """rle, explicit (VR little endian) or implicit."""
    storage: str = "hu+1024"
    """How values are stored, see storage.py: CT hu+1024, hu, hu padded, hu+8192, header lies; MR raw, unit, slope."""
    bits: int = 16
    """16 (signed) or 12 (unsigned)."""
    enhanced: str = ""
    """Empty for single-frame files, else where the geometry is: groups (shared and per frame), rewritten ([0, 0, k dz]
    per frame), bare (nowhere)."""
    order: str = "ascending"
    """Order of an enhanced file's frames, or of InstanceNumbers: ascending, descending, interleaved."""
    uncounted: bool = False
    """An enhanced file without NumberOfFrames."""
    other_meta_uid: bool = False
    """The SOP Instance UIDs of file meta and data set differ."""
    wrong_spacing: bool = False
    """SpacingBetweenSlices differs from the distance between the positions."""
    missing: str = ""
    """Tags left out: PixelSpacing, or position (with the orientation)."""
    scout: bool = False
    """The folder contains one image of another orientation."""
    two_times: bool = False
    """Each position has two images."""
    inverted: bool = False
    """MONOCHROME1."""
    gap: bool = False
    """One slice is missing: that of the first localizer, if there is one."""
    clean: bool = False
    """No quirks, and SeriesInstanceUID is written."""

    @property
    def names(self) -> str:
        """The quirks as text for truth.csv, such as `enhanced=bare order=descending scout`."""
        odd = [f.name for f in fields(self) if f.name not in ("syntax", "storage", "bits", "clean")]
        odd = [name for name in odd if getattr(self, name) != Quirks.__dataclass_fields__[name].default]
        return " ".join(name if getattr(self, name) is True else f"{name}={getattr(self, name)}" for name in odd)


def draw_quirks(rng: np.random.Generator, modality: str, plane: str, enhanced: bool, clean: bool) -> Quirks:
    """Draws the quirks of one series; they depend on modality and plane, never on a label."""
    ct = modality == "CTA"
    if clean:
        return Quirks(storage="hu+1024" if ct else "unit", clean=True)
    storage = (
        rng.choice(["hu+1024", "hu", "hu padded", "hu+8192", "header lies"], p=[0.5, 0.12, 0.2, 0.1, 0.08])
        if ct
        else rng.choice(["raw", "unit", "slope"], p=[0.8, 0.1, 0.1])
    )
    common = dict(
        syntax=str(rng.choice(["rle", "explicit", "implicit"], p=[0.85, 0.11, 0.04])),
        storage=str(storage),
        bits=12 if storage not in ("hu", "hu padded", "hu+8192", "header lies") and rng.random() < 0.12 else 16,
        other_meta_uid=rng.random() < 0.9,
        inverted=not ct and rng.random() < 0.005,
    )
    several = _enhanced_quirks(rng) if enhanced else _single_frame_quirks(rng, ct)
    return Quirks(**common, **several)


def _enhanced_quirks(rng) -> dict:
    geometry = str(rng.choice(["groups", "rewritten", "bare"], p=[0.3, 0.45, 0.25]))
    order = str(rng.choice(["ascending", "descending", "interleaved"], p=[0.75, 0.15, 0.1]))
    # Without positions the order of frames is unknowable: such files have the usual one.
    return dict(
        enhanced=geometry, order="ascending" if geometry == "bare" else order, uncounted=bool(rng.random() < 0.1)
    )


def _single_frame_quirks(rng, ct: bool) -> dict:
    chance = rng.random(6)
    missing = "" if chance[0] > 0.012 else ("PixelSpacing" if chance[0] > 0.005 else "position")
    return dict(
        order="descending" if chance[1] < 0.15 and missing != "position" else "ascending",
        wrong_spacing=bool(chance[2] < (0.0 if ct else 0.03)),
        missing=missing,
        scout=bool(chance[3] < 0.015 and missing != "position"),
        two_times=bool(chance[4] < 0.005 and missing != "position"),
        gap=bool(chance[5] < 0.004),
    )
