"""Sound DICOM files of each kind: plain and enhanced, in each transfer syntax."""

from __future__ import annotations

from pathlib import Path

import gdcm
import numpy as np
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from tests.dicom_writer import transcode, write_enhanced, write_image


def pixels(shape: tuple) -> np.ndarray:
    """Smooth with some noise, so that compression has something to do."""
    r, c = np.mgrid[: shape[-2], : shape[-1]]
    noise = np.random.default_rng(0).integers(0, 30, shape)
    return (1000 + 500 * np.sin(r / 9) * np.cos(c / 7) + noise).astype(np.int16)


def whole_files(folder: Path) -> dict[str, Path]:
    """One sound file of each kind."""
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "PixelPaddingValue": -2000}
    syntaxes = {
        "explicit": ExplicitVRLittleEndian,
        "implicit": ImplicitVRLittleEndian,
        "big": ExplicitVRBigEndian,
        "rle": RLELossless,
        "jpeg2000": JPEG2000Lossless,
    }
    files = {name: write_image(folder / name, pixels((64, 80)), syntax, **tags) for name, syntax in syntaxes.items()}
    for name in ("JPEGLSLossless", "JPEGLosslessProcess14_1"):
        files[name] = write_image(folder / name, pixels((64, 80)), **tags)
        transcode(files[name], getattr(gdcm.TransferSyntax, name))
    enhanced = {"rescale": lambda i: (1.0, 0.0), "spacing": (1.0, 0.5, 0.5)}
    files["enhanced"] = write_enhanced(folder / "enhanced", pixels((6, 64, 80)), **enhanced)
    files["enhanced-rle"] = write_enhanced(folder / "enhanced-rle", pixels((6, 64, 80)), syntax=RLELossless, **enhanced)
    files["enhanced-j2k"] = write_enhanced(
        folder / "enhanced-j2k", pixels((6, 64, 80)), syntax=JPEG2000Lossless, **enhanced
    )
    return files
