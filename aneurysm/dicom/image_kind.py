"""Classifies images by header: plain, phase, projection or reformat, localizer."""

from __future__ import annotations

import re

from aneurysm.dicom.frames import TRAITS, Frame

_NO_MAGNITUDE = {"P", "PHASE", "R", "REAL", "I", "IMAG", "IMAGINARY", "VELOCITY"}
_PROJECTION = {"MIP", "MINIP", "MPR", "PROJECTION", "VRT", "RENDERED", "REFORMATTED"}
_NO_VOLUME = {"MOSAIC", "LOCALIZER", "SCREENSHOT", "SCREEN"}


def kind_of(frame: Frame) -> int:
    """0 for plain images, 1 for phase, real and imaginary ones, 2 for projections and reformats, 3 for localizers,
    mosaics and screenshots."""
    return max(text_kind(str(frame.traits[TRAITS.index(name)])) for name in ("ComplexImageComponent", "ImageType"))


def text_kind(value: str) -> int:
    """The same for one text, ImageType or ComplexImageComponent; ignores the first two values of an ImageType."""
    parts = value.upper().split("\\")
    words = set(re.split(r"[^A-Z]+", " ".join(parts[2:] if len(parts) > 2 else parts)))
    return next((kind for kind, some in ((3, _NO_VOLUME), (2, _PROJECTION), (1, _NO_MAGNITUDE)) if words & some), 0)
