"""Reads the frames of one series, from files already found or from a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from aneurysm.dicom.find import SeriesFiles
from aneurysm.dicom.folders import files_below
from aneurysm.dicom.frames import Frame, read_frames
from aneurysm.dicom.header import Header, read_header
from aneurysm.dicom.split_series import series_keys


def series_frames(place: Path | SeriesFiles) -> tuple[Path, list[Frame], list[str]]:
    """(folder, all frames, warnings) of a folder with its subfolders, of one file, or of files already found.

    A warning lists unreadable files, another the files of other series. Raises ValueError if there is no frame, or if a
    folder holds as many files of a second patient.
    """
    refused: list[str] = []
    if isinstance(place, SeriesFiles):
        folder, warnings = place.folder, []
        refused += place.left_out
        headers = _each(place.files, read_header, refused)
    else:
        if not place.exists():
            raise ValueError(f"{place}: no such folder or file")
        folder = place
        headers = _each([place] if place.is_file() else files_below(place), read_header, refused)
        headers, warnings = _of_one_series(headers, place)
    frames = [frame for own in _each(headers, read_frames, refused) for frame in own]
    if not frames:
        what = f"{len(refused)} files, the first: {refused[0]}" if refused else "no file"
        raise ValueError(f"{folder}: expected DICOM images, found {what}")
    shown = "; ".join(refused[:5]) + ("; ..." if len(refused) > 5 else "")
    return folder, frames, [f"{len(refused)} files left out: {shown}"] * bool(refused) + warnings


def _each(items: Iterable, read: Callable, refused: list[str]) -> list:
    """The result of `read` for each item; the messages of its errors are added to `refused`."""
    found = []
    for item in items:
        try:
            found.append(read(item))
        except (ValueError, OSError) as error:
            refused.append(str(error))
    return found


def _of_one_series(headers: Sequence[Header], folder: Path) -> tuple[list[Header], list[str]]:
    """The headers of one series, and a warning that names the others, if the headers contradict (split_series).

    Prefers the SeriesInstanceUID that is the folder's name, then the most files. Raises ValueError if two patients
    have equally many.
    """
    groups: dict[tuple, list[Header]] = {}
    for header, key in zip(headers, series_keys(headers), strict=True):
        groups.setdefault(key, []).append(header)
    if len(groups) < 2:
        return list(headers), []
    named = {key: group for key, group in groups.items() if key[0] == folder.name} or groups
    most = max(map(len, named.values()))
    largest = [group for group in named.values() if len(group) == most]
    people = {group[0].values.get("PatientID", "") for group in largest}
    if len(people) > 1:
        raise ValueError(
            f"{folder}: expected one series, found {most} files each of {len(people)} patients (PatientID)"
        )
    own = {id(header) for header in largest[0]}
    names = [header.path.name for header in headers if id(header) not in own]
    return largest[0], [
        f"{len(names)} of {len(headers)} images left out, of another series, patient, study or frame of reference than "
        f"the largest group of {most}: {', '.join(names[:5])}{' ...' * (len(names) > 5)}"
    ]
