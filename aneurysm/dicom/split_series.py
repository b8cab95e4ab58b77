"""Splits files with one SeriesInstanceUID into series if patient, study, coordinates or folders contradict.

Besides SeriesInstanceUID, differing values of PatientID, StudyInstanceUID or FrameOfReferenceUID separate series.
Ignored are missing values, and values that differ from file to file, as some anonymisers write them. Files without a
SeriesInstanceUID are separated by StudyInstanceUID and SeriesNumber as well.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Hashable, Sequence
from pathlib import Path

from aneurysm.dicom.header import Header

CONTRADICTING = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")
Key = tuple[str, ...]


def series_keys(headers: Sequence[Header]) -> list[Key]:
    """A key for each header: SeriesInstanceUID ("" if missing), SeriesNumber if that is missing (else ""), and the
    values of CONTRADICTING; files with equal keys may be one series."""
    keys: list[Key] = [_named(header) for header in headers]
    for name in CONTRADICTING:
        values = [str(header.values.get(name, "")) for header in headers]
        members: dict[Key, list[int]] = {}
        for i, key in enumerate(keys):
            members.setdefault(key, []).append(i)
        for key, group in members.items():
            distinct = {values[i] for i in group} - {""}
            ignored = len(distinct) > max(2, len(group) / 2)
            for i in group:
                own = values[i] or (next(iter(distinct)) if len(distinct) == 1 else "")
                keys[i] = (*key, "" if ignored else own)
    return keys


def split_id(uid: str, key: Hashable) -> str:
    """The id of one of several series that share a UID: the same in every run, without revealing the PatientID."""
    return f"{uid}-{hashlib.sha256(repr(key).encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def split_folders(files: Sequence[tuple[Path, Header, Path]]) -> list[list[tuple[Path, Header, Path]]]:
    """(file, header, folder) of one series, split if two folders hold different images of the same positions.

    This is the case if most images of the smaller folder share the position (or instance number, if they have none) or
    the SOP Instance UID with an image of the other and are not copies of it. It is also the case if no image of one has
    size and orientation of an image of the other. Folders that continue each other and copied folders are not split.
    """
    folders: dict[Path, list[tuple[Path, Header, Path]]] = {}
    for one in files:
        folders.setdefault(one[2], []).append(one)
    groups: list[list[tuple[Path, Header, Path]]] = []
    for own in folders.values():
        group = next((group for group in groups if not _contradict(group, own)), None)
        if group is None:
            groups.append(list(own))
        else:
            group += own
    return groups


def _named(header: Header) -> Key:
    uid = header.values.get("SeriesInstanceUID", "")
    number = None if uid else header.number("SeriesNumber")
    return uid, "" if number is None else f"{number:g}"


def _contradict(a: list[tuple[Path, Header, Path]], b: list[tuple[Path, Header, Path]]) -> bool:
    if not {_form(header) for _, header, _ in a} & {_form(header) for _, header, _ in b}:
        return True
    by_uid, by_place = {}, {}
    for _, header, _ in a:
        by_uid.setdefault(header.values.get("SOPInstanceUID"), header)
        by_place.setdefault(_place(header), header)
    n_different = 0
    for _, header, _ in b:
        uid, place = header.values.get("SOPInstanceUID"), _place(header)
        twin = by_uid.get(uid) if uid else None
        if twin is not None:
            n_different += _place(twin) != place or _pixel_sum(twin) != _pixel_sum(header)
        else:
            n_different += place is not None and place in by_place
    return 2 * n_different > min(len(a), len(b))


def _form(header: Header) -> Hashable:
    """Properties that all images of a stack share: size, orientation, whether they have a position, multi-frame."""
    orientation = tuple(round(value, 1) for value in header.vector("ImageOrientationPatient", 6) or ())
    bare = header.vector("ImagePositionPatient", 3) is None
    return header.number("Rows"), header.number("Columns"), orientation, bare, header.dataset is not None


def _place(header: Header) -> Hashable:
    """Position and orientation of an image from top-level elements of its header, else its InstanceNumber."""
    position = header.vector("ImagePositionPatient", 3)
    if position is None:
        return header.number("InstanceNumber")
    orientation = header.vector("ImageOrientationPatient", 6) or ()
    return tuple(round(value, 2) for value in (*position, *orientation))


def _pixel_sum(header: Header) -> int:
    """CRC-32 of the stored pixels; of the rest or the whole of the file if their length or offset is unknown."""
    with open(header.path, "rb") as file:
        file.seek(header.pixel_offset or 0)
        return zlib.crc32(file.read(-1 if header.pixel_bytes is None else header.pixel_bytes))
