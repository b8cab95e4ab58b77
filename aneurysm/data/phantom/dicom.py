"""Writes one series as DICOM files, one per slice or one enhanced multi-frame file, with its quirks.

Only tags that the competition's anonymiser keeps are written; a clean series adds its SeriesInstanceUID.
Geometry: DICOM PS3.3 C.7.6.2 (image plane) and C.7.6.16.2 (functional groups).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pydicom.valuerep import format_number_as_ds
from rle.rle import encode_frame

from aneurysm.data.phantom.grid import Grid
from aneurysm.data.phantom.quirks import Quirks
from aneurysm.data.phantom.storage import Stored

_SYNTAXES = {"rle": RLELossless, "explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian}
CT_IMAGE, MR_IMAGE, ENHANCED_MR = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "4.1"))


@dataclass(frozen=True)
class Identity:
    """Whose series this is; every UID is a hash of the seed and the series' number, so that it says nothing."""

    series_uid: str
    patient: str
    modality: str
    """CT or MR."""
    thickness_mm: float


def make_uid(*parts: object) -> str:
    """A valid UID of at most 64 characters (PS3.5 B.2 root of pydicom) that depends on `parts` alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
    return f"1.2.826.0.1.3680043.8.498.{int(digest, 16) % (9 * 10**37) + 10**37}"


def write_slices(
    folder: Path, stored: Stored, grid: Grid, quirks: Quirks, identity: Identity, role: str = "image", after: int = 0
) -> list[str]:
    """One file per slice; returns the SOP Instance UIDs in slice order.

    role: part of the UIDs, so that a scout or a second time point gets its own; after: the last InstanceNumber given.
    """
    base = _base(stored, quirks, identity)
    base.SOPClassUID = CT_IMAGE if identity.modality == "CT" else MR_IMAGE
    if quirks.missing != "position":
        base.ImageOrientationPatient = _orientation(grid)
        base.SpacingBetweenSlices = _spacing_tag(grid, quirks)
    if quirks.missing != "PixelSpacing":
        base.PixelSpacing = _pixel_spacing(grid)
    n, uids = grid.shape[0], []
    for index in range(n):
        uid = make_uid(identity.series_uid, role, index)
        base.SOPInstanceUID = uid
        base.InstanceNumber = after + (n - index if quirks.order == "descending" else index + 1)
        if quirks.missing != "position":
            base.ImagePositionPatient = _numbers(grid.to_mm((index, 0, 0)))
        _write(folder, base, stored.pixels[index : index + 1], quirks)
        uids.append(uid)
    return uids


def write_enhanced(
    folder: Path, stored: Stored, grid: Grid, quirks: Quirks, identity: Identity
) -> tuple[str, np.ndarray]:
    """One file of all slices; returns its SOP Instance UID, and at [k] the frame (from 0) that holds slice k."""
    order = frame_order(grid.shape[0], quirks.order)  # order[frame] = slice
    base = _base(stored, quirks, identity)
    base.SOPClassUID, base.SOPInstanceUID = ENHANCED_MR, make_uid(identity.series_uid, "enhanced")
    base.InstanceNumber = 1
    if not quirks.uncounted:
        base.NumberOfFrames = len(order)
    if quirks.enhanced == "groups":
        shared = _measures(grid, identity) | _plane_orientation(_orientation(grid))
        frames = [_plane_position(grid.to_mm((k, 0, 0))) | _content(int(k) + 1) for k in order]
        base.SharedFunctionalGroupsSequence = [_group(shared)]
        base.PerFrameFunctionalGroupsSequence = [_group(frame) for frame in frames]
    elif quirks.enhanced == "rewritten":
        dz = float(np.linalg.norm(grid.step))
        identical = _measures(grid, identity) | _plane_orientation([1, 0, 0, 0, 1, 0])
        base.PerFrameFunctionalGroupsSequence = [_group(identical | _plane_position((0, 0, k * dz))) for k in order]
    _write(folder, base, stored.pixels[order], quirks)
    return base.SOPInstanceUID, np.argsort(order)


def frame_order(n: int, order: str) -> np.ndarray:
    """(n,) the slice that each frame holds; interleaved is odd slices first, as interleaved acquisitions store them."""
    if order == "interleaved":
        return np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)])
    return np.arange(n)[:: -1 if order == "descending" else 1]


def _base(stored: Stored, quirks: Quirks, identity: Identity) -> Dataset:
    """What all files of the series share."""
    base = Dataset()
    for tag, value in stored.tags.items():
        setattr(base, tag, value)
    base.Modality = identity.modality
    base.PatientID = identity.patient
    base.StudyInstanceUID = make_uid(identity.series_uid, "study")
    base.FrameOfReferenceUID = make_uid(identity.series_uid, "frame of reference")
    base.SliceThickness = format_number_as_ds(identity.thickness_mm)
    if quirks.clean:
        base.SeriesInstanceUID = identity.series_uid
    return base


def _write(folder: Path, base: Dataset, frames: np.ndarray, quirks: Quirks) -> None:
    """<SOPInstanceUID>.dcm of frames (n, rows, columns)."""
    if quirks.syntax == "rle":
        rows, cols = frames.shape[1:]
        base.PixelData = encapsulate([encode_frame(f.tobytes(), rows, cols, 1, 16, "<") for f in frames], has_bot=False)
    else:
        base.PixelData = frames.tobytes()
    base["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # the writer fills it in
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = base.SOPClassUID
    uid = base.SOPInstanceUID
    meta.MediaStorageSOPInstanceUID = make_uid(uid, "before anonymisation") if quirks.other_meta_uid else uid
    meta.TransferSyntaxUID = _SYNTAXES[quirks.syntax]
    meta.ImplementationClassUID = make_uid("phantom")
    base.file_meta, base.preamble = meta, bytes(128)
    # enforce_file_format would overwrite the file meta's SOP Instance UID.
    dcmwrite(folder / f"{uid}.dcm", base, enforce_file_format=False)


def _numbers(values) -> list[str]:
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _orientation(grid: Grid) -> list[str]:
    """ImageOrientationPatient: the direction of growing column index, then of growing row index."""
    return _numbers(np.concatenate([v / np.linalg.norm(v) for v in (grid.col_step, grid.row_step)]).round(10))


def _pixel_spacing(grid: Grid) -> list[str]:
    """PixelSpacing: between rows, then between columns."""
    return _numbers([np.linalg.norm(grid.row_step), np.linalg.norm(grid.col_step)])


def _spacing_tag(grid: Grid, quirks: Quirks) -> str:
    spacing = float(np.linalg.norm(grid.step))
    return format_number_as_ds(round(spacing * (36 if spacing < 1 else 3), 6) if quirks.wrong_spacing else spacing)


def _group(items: dict) -> Dataset:
    """A functional group: each of `items` is a sequence of one item."""
    group = Dataset()
    for name, tags in items.items():
        item = Dataset()
        for tag, value in tags.items():
            setattr(item, tag, value)
        setattr(group, name, [item])
    return group


def _measures(grid: Grid, identity: Identity) -> dict:
    tags = {
        "PixelSpacing": _pixel_spacing(grid),
        "SliceThickness": format_number_as_ds(identity.thickness_mm),
        "SpacingBetweenSlices": format_number_as_ds(float(np.linalg.norm(grid.step))),
    }
    return {"PixelMeasuresSequence": tags}


def _plane_orientation(orientation: list) -> dict:
    return {"PlaneOrientationSequence": {"ImageOrientationPatient": orientation}}


def _plane_position(point) -> dict:
    return {"PlanePositionSequence": {"ImagePositionPatient": _numbers(point)}}


def _content(number: int) -> dict:
    return {"FrameContentSequence": {"InStackPositionNumber": number, "StackID": "1"}}
