"""Damaged files end in a Series or in a ValueError that names them: no other exception, no hang, no crash."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from tests.dicom_writer import transcode, write_enhanced, write_image

N_EACH = 12  # damaged files of each kind of damage to each kind of file
SECONDS, GIB = 5.0, 2**30
RUN = "import sys; from tests.test_damaged_files import read_all; read_all(sys.argv[1])"


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


def flip_header_bytes(data: bytearray, rng: random.Random) -> bytearray:
    pixels_at = data.rfind(b"\xe0\x7f\x10\x00")
    end = pixels_at + 20 if pixels_at > 132 else len(data)
    for _ in range(rng.choice((1, 3, 10, 40))):
        data[rng.randrange(132, end)] = rng.randrange(256)
    return data


def flip_pixel_bytes(data: bytearray, rng: random.Random) -> bytearray:
    start = max(data.rfind(b"\xe0\x7f\x10\x00"), 132)
    for _ in range(rng.choice((1, 5, 50, 500))):
        data[rng.randrange(start, len(data))] = rng.randrange(256)
    return data


def flip_codestream_head(data: bytearray, rng: random.Random) -> bytearray:
    """The first bytes of the compressed image hold its sizes and its offsets."""
    start = max(data.rfind(b"\xe0\x7f\x10\x00"), 132)
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(start, min(start + 140, len(data)))] = rng.choice(
            (0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256))
        )
    return data


def cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def insert_or_drop(data: bytearray, rng: random.Random) -> bytearray:
    at, n = rng.randrange(132, len(data)), rng.choice((1, 2, 7, 100))
    if rng.random() < 0.5:
        return data[:at] + bytes(rng.randrange(256) for _ in range(n)) + data[at:]
    return data[:at] + data[at + n :]


def swap_tags(data: bytearray, rng: random.Random) -> bytearray:
    """Exchanges two tags of group 0020 or 0028, so that values stand under the wrong name."""
    places = [i for i in range(132, len(data) - 4) if data[i] in (0x20, 0x28) and data[i + 1 : i + 2] == b"\0"][:60]
    if len(places) > 1:
        a, b = rng.sample(places, 2)
        data[a : a + 4], data[b : b + 4] = data[b : b + 4], data[a : a + 4]
    return data


ABSURD = {
    "Rows": (0, 1, 63, 65, 8192, 65535),
    "Columns": (0, 1, 79, 81, 8192, 65535),
    "BitsAllocated": (0, 1, 8, 12, 24, 32, 64, 65535),
    "BitsStored": (0, 1, 8, 15, 17, 65535),
    "PixelRepresentation": (0, 2, 65535),
    "SamplesPerPixel": (0, 2, 3, 65535),
    "NumberOfFrames": ("-5", "0", "1", "5", "7", "60", "2147483647", "99999999999999999999", "x"),
    "PhotometricInterpretation": ("", "MONOCHROME1", "RGB", "?"),
    "ImagePositionPatient": ("1e308\\1e308\\1e308", "nan\\0\\0", "inf\\1\\2", "1\\2", "a\\b\\c", "\\\\"),
    "ImageOrientationPatient": ("1e308\\0\\0\\0\\1e308\\0", "0\\0\\0\\0\\0\\0", "nan\\0\\0\\0\\1\\0", "1\\1"),
    "PixelSpacing": ("0\\0", "-1\\-1", "1e-30\\1e30", "0.05\\20", "1", "nan\\nan"),
    "RescaleSlope": ("0", "nan", "1e300", "-1", "", "1e-300"),
    "RescaleIntercept": ("nan", "1e300", "x", "-1e5"),
    "SliceThickness": ("-1", "1e300", "nan"),
    "InstanceNumber": ("1e300", "x", "99999999999999999999"),
    "PixelPaddingValue": (0, 1000, 65535),
    "TransferSyntaxUID": [
        f"1.2.840.10008.1.2.{n}" for n in ("5", "1.99", "2", "4.50", "4.80", "4.90", "4.201", "4.100")
    ]
    + ["1.2.840.10008.1.2", "1.2.3", ""],
}


def absurd_values(data: bytearray, rng: random.Random) -> bytearray:
    """Some elements replaced by values that cannot be, as raw bytes past pydicom's checks."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(bytes(data)))
    implicit, little = dataset.original_encoding
    for name in rng.sample(sorted(ABSURD), rng.choice((1, 1, 2, 4))):
        value = rng.choice(ABSURD[name])
        if name == "TransferSyntaxUID":
            dataset.file_meta.TransferSyntaxUID = value
            continue
        raw = value.encode() if isinstance(value, str) else value.to_bytes(2, "little" if little else "big")
        raw += b" " * (len(raw) % 2)
        tag, vr = pydicom.tag.Tag(name), pydicom.datadict.dictionary_VR(name)[:2]
        dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(raw), raw, 0, implicit, little)
    return _written(dataset, data)


def garbage_in_groups(data: bytearray, rng: random.Random) -> bytearray:
    """Functional groups that are empty, of the wrong type, too few, or filled with other things."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(bytes(data)))
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [pydicom.Dataset() for _ in range(6)])
    item = _with_raw(pydicom.Dataset(), 0x00209113, "UN", rng.randbytes(30))
    empty = pydicom.Dataset()
    empty.PlanePositionSequence, empty.PixelMeasuresSequence = [], [pydicom.Dataset()]
    text = _with_raw(pydicom.Dataset(), 0x00289110, "LO", b"not a sequence")
    choice = rng.randrange(5)
    if choice == 0:
        frames = [rng.choice((frame, item, empty, text)) for frame in frames]
    elif choice == 1:
        frames = frames[: rng.randrange(6)]
    elif choice == 2:
        frames = frames * 3
    dataset.PerFrameFunctionalGroupsSequence = frames
    if choice >= 3:
        dataset = _with_raw(dataset, 0x52009229 + choice % 2, "UN" if choice == 3 else "LO", rng.randbytes(200))
    if rng.random() < 0.5:
        dataset.NumberOfFrames = None
    return _written(dataset, data)


def _with_raw(dataset: pydicom.Dataset, tag: int, vr: str, raw: bytes) -> pydicom.Dataset:
    tag = pydicom.tag.Tag(tag)
    dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(raw), raw, 0, False, True)
    return dataset


def _written(dataset: pydicom.Dataset, data: bytearray) -> bytearray:
    buffer = pydicom.filebase.DicomBytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            implicit, little = dataset.original_encoding
            pydicom.dcmwrite(
                buffer,
                dataset,
                enforce_file_format=False,
                implicit_vr=implicit,
                little_endian=little,
                force_encoding=True,
            )
        except Exception:  # what pydicom does not write is damaged in another way
            return data[: len(data) // 2]
    return bytearray(buffer.getvalue())


DAMAGES: tuple[Callable, ...] = (
    flip_header_bytes,
    flip_pixel_bytes,
    flip_codestream_head,
    cut,
    insert_or_drop,
    swap_tags,
    absurd_values,
    garbage_in_groups,
)


def read_all(folder: str) -> None:
    """Reads each file of a folder and prints what came of it, one JSON line a file (runs in a process of its own)."""
    import cv2

    from aneurysm.data.head import find_head
    from aneurysm.data.intensity import Window
    from aneurysm.data.series import read_series
    from aneurysm.data.slices import cached_slices

    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (12 * GIB, 12 * GIB))
    for path in sorted(Path(folder).iterdir()):
        print(json.dumps({"file": path.name}), flush=True)
        start, trouble, read = time.monotonic(), "", False
        try:
            series = read_series(path)
            read = bool(
                np.isfinite(series.pixels).all()
                and series.geometry.shape == (len(series.frames), *series.geometry.shape[1:])
            )
            trouble = "" if read else "pixels are not finite"
            window = find_head(series, Window(0, 600), 180)
            for image in cached_slices(series, window, [0]):
                trouble = trouble or ("" if np.isfinite(image).all() else "cached slice is not finite")
        except ValueError as error:
            trouble = "" if str(path) in str(error) else f"the file is not named: {error}"
        except BaseException as error:
            trouble = f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        took = time.monotonic() - start
        print(json.dumps({"trouble": trouble, "read": read, "seconds": took, "peak_gib": peak}), flush=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    return whole_files(tmp_path_factory.mktemp("sound"))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_read_or_refused_by_name(tmp_path, sound, damage):
    rng = random.Random(damage.__name__)
    for name, path in sound.items():
        for i in range(N_EACH):
            (tmp_path / f"{name}-{i:03d}").write_bytes(damage(bytearray(path.read_bytes()), rng))
    lines, crash = read_in_a_process(tmp_path)
    files = [line["file"] for line in lines if "file" in line]
    results = [line for line in lines if "trouble" in line]
    assert not crash, f"{files[-1]}: {crash}"
    assert len(results) == len(sound) * N_EACH
    troubles = {file: r["trouble"] for file, r in zip(files, results, strict=True) if r["trouble"]}
    assert troubles == {}
    assert max(r["seconds"] for r in results) < SECONDS
    assert results[-1]["peak_gib"] < 2


def read_in_a_process(folder: Path) -> tuple[list[dict], str]:
    """The lines that read_all prints, and how its process died, if it did."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder)], capture_output=True, text=True, timeout=120, env=environment
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return lines, f"exit {done.returncode}: {done.stderr[-300:]}" if done.returncode else ""


def test_the_sound_files_are_read(tmp_path, sound):
    for name, path in sound.items():
        (tmp_path / name).write_bytes(path.read_bytes())
    lines, crash = read_in_a_process(tmp_path)
    assert not crash and all(line["read"] for line in lines if "read" in line)
