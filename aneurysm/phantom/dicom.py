"""Writes one series as DICOM files, one per slice or one enhanced multi-frame file, with its quirks.

Writes only tags that the competition's anonymiser keeps; a clean series adds its SeriesInstanceUID.
Geometry: DICOM PS3.3 C.7.6.2 (image plane) and C.7.6.16.2 (functional groups).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from aneurysm.phantom.encoding import SeriesWriter, make_uid
from aneurysm.phantom.grid import Grid
from aneurysm.phantom.quirks import Quirks
from aneurysm.phantom.storage import Stored

CT_IMAGE, MR_IMAGE, ENHANCED_MR = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "4.1"))


@dataclass(frozen=True)
class Identity:
    """Series, patient and modality; every UID is a hash of seed and number, so that it does not leak the label."""

    series_uid: str
    patient: str
    modality: str
    """CT or MR."""
    thickness_mm: float


def write_slices(
    folder: Path, stored: Stored, grid: Grid, quirks: Quirks, identity: Identity, role: str = "image", after: int = 0
) -> list[str]:
    """Writes one file per slice; returns the SOP Instance UIDs in slice order.

    role: part of the UIDs, so that those of scouts and second time points differ; after: last InstanceNumber in use.
    """
    base = _base(stored, quirks, identity)
    base.SOPClassUID = CT_IMAGE if identity.modality == "CT" else MR_IMAGE
    if quirks.missing != "position":
        base.ImageOrientationPatient = _orientation(grid)
        base.SpacingBetweenSlices = _spacing_tag(grid, quirks)
    if quirks.missing != "PixelSpacing":
        base.PixelSpacing = _pixel_spacing(grid)
    writer = SeriesWriter(folder, base, quirks.syntax, quirks.other_meta_uid)
    n, uids = grid.shape[0], [make_uid(identity.series_uid, role, index) for index in range(grid.shape[0])]
    for index, uid in enumerate(uids):
        own = Dataset()
        own.SOPInstanceUID = uid
        own.InstanceNumber = after + (n - index if quirks.order == "descending" else index + 1)
        if quirks.missing != "position":
            own.ImagePositionPatient = _numbers(grid.to_mm((index, 0, 0)))
        writer.write(own, stored.pixels[index : index + 1])
    return uids


def write_enhanced(
    folder: Path, stored: Stored, grid: Grid, quirks: Quirks, identity: Identity
) -> tuple[str, np.ndarray]:
    """Writes all slices to one file; returns its SOP Instance UID and the frame (from 0) of each slice, (n,)."""
    order = frame_order(grid.shape[0], quirks.order)  # order[frame] = slice
    base = _base(stored, quirks, identity)
    base.SOPClassUID, base.InstanceNumber = ENHANCED_MR, 1
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
    own = Dataset()
    own.SOPInstanceUID = make_uid(identity.series_uid, "enhanced")
    SeriesWriter(folder, base, quirks.syntax, quirks.other_meta_uid).write(own, stored.pixels[order])
    return own.SOPInstanceUID, np.argsort(order)


def frame_order(n: int, order: str) -> np.ndarray:
    """(n,) slice of each frame; interleaved: 0, 2, 4, ... first, as interleaved acquisitions are stored."""
    if order == "interleaved":
        return np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)])
    return np.arange(n)[:: -1 if order == "descending" else 1]


def _base(stored: Stored, quirks: Quirks, identity: Identity) -> Dataset:
    """The elements common to all files of the series."""
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


def _numbers(values) -> list[str]:
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _orientation(grid: Grid) -> list[str]:
    """ImageOrientationPatient: direction of increasing column index, then of increasing row index."""
    return _numbers(np.concatenate([v / np.linalg.norm(v) for v in (grid.col_step, grid.row_step)]).round(10))


def _pixel_spacing(grid: Grid) -> list[str]:
    """PixelSpacing in mm: between rows, then between columns."""
    return _numbers([np.linalg.norm(grid.row_step), np.linalg.norm(grid.col_step)])


def _spacing_tag(grid: Grid, quirks: Quirks) -> str:
    spacing = float(np.linalg.norm(grid.step))
    return format_number_as_ds(round(spacing * (36 if spacing < 1 else 3), 6) if quirks.wrong_spacing else spacing)


def _group(items: dict) -> Dataset:
    """A functional group: each of `items` becomes a sequence of one item."""
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
