"""Finds the series in folders, files and zip archives, by SeriesInstanceUID and contradictions within it."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aneurysm.dicom.archive import unpack
from aneurysm.dicom.folders import files_below, folders_below
from aneurysm.dicom.frame_count import ONE_FRAME_CLASSES
from aneurysm.dicom.header import Header, NoPicture, read_header
from aneurysm.dicom.split_series import series_keys, split_folders, split_id

IMAGE_SUFFIXES = (".dcm", ".dicom", ".ima")
SCOUT_IMAGES = 2  # a series with at most this many images, beside larger ones, is a scout


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series.

    uid       SeriesInstanceUID; if it is missing or nothing can be read, the folder's name (several studies in one
              folder: StudyInstanceUID). Series that share one (see split_series) get a suffix, the same in every run:
              a dash and their SeriesNumber or eight hex digits
    folder    where they were found, in the user's terms (inside an archive: below the archive's name)
    left_out  why other files there are not images, one sentence each
    no_head   why a valid series is not predicted (scout, report); else ""
    """

    uid: str
    folder: Path
    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()
    no_head: str = ""

    def fingerprint(self) -> str:
        """A hash of the files' names and sizes; the same after the files are moved or unpacked again."""
        facts = sorted((file.name.encode("utf-8", "surrogateescape"), file.stat().st_size) for file in self.files)
        return hashlib.sha256(repr(facts).encode()).hexdigest()


@dataclass
class _Place:
    """A folder under its displayed name, and the files found in it."""

    name: Path
    files: list[tuple[Path, Header]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    looks_like_images: bool = False  # a refused file has the suffix of an image
    n_no_pictures: int = 0  # refused files that are valid DICOM objects of other kinds


def find_series(paths: Sequence[Path], unpack_to: Path) -> Iterator[SeriesFiles]:
    """Every series below `paths`: folders at any depth, single files, zip archives (unpacked below `unpack_to`; nested
    archives are not unpacked).

    A series spread over several paths is one series, unless its parts contradict (split_series). Files without a
    SeriesInstanceUID, as in the competition, form one series per folder and study. A file named twice counts once.
    A folder without images, a missing path and a damaged archive each give a series without files, so that nothing is
    lost. Exception: a folder above images, unless a file in it has the suffix of an image.
    """
    places: dict[Path, _Place] = {}
    for number, path in enumerate(paths):
        for file, name in _files_of(path, unpack_to / str(number)):
            place = places.setdefault(name, _Place(name))
            if isinstance(file, str):
                place.refused += [file] if file else []
            else:
                _look_at(file, place)
    yield from _series_in(list(places.values()))


def without_scouts(found: Iterable[SeriesFiles]) -> tuple[list[SeriesFiles], list[str]]:
    """The series to predict, and a sentence for each that is left out (no_head)."""
    found = list(found)
    asked = [series for series in found if not series.no_head]
    return asked, [f"{series.folder} ({series.uid}): {series.no_head}" for series in found if series.no_head]


def _files_of(path: Path, unpacked: Path) -> Iterator[tuple[Path | str, Path]]:
    """Yields (file, displayed folder); in place of a file the reason why there is none, "" for an empty folder."""
    if path.is_file() and zipfile.is_zipfile(path):
        reason = unpack(path, unpacked)
        if reason:
            yield reason, path
            return
        root, name = unpacked, path
    elif path.is_file():
        yield path, path.parent
        return
    else:
        root = name = path
    if not root.is_dir():
        yield f"{path}: no such folder or file", path
        return
    folders, not_followed = folders_below(root)
    for link in not_followed:
        yield f"{link}: a link to a folder that holds {root} itself: not followed", name / link.relative_to(root).parent
    for folder in folders:
        if _is_shown(folder, root) and not any(_is_shown(path, root) for path in folder.iterdir()):
            yield "", name / folder.relative_to(root)
    for file in files_below(root):
        if _is_shown(file, root):
            yield file, name / file.relative_to(root).parent


def _is_shown(path: Path, root: Path) -> bool:
    """Whether no part of the path below `root` is hidden or `__MACOSX`."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts)


def _look_at(file: Path, place: _Place) -> None:
    try:
        place.files.append((file, read_header(file)))
    except NoPicture as error:
        place.refused.append(str(error))
        place.n_no_pictures += 1
    except (ValueError, OSError) as error:
        place.refused.append(str(error))
        place.looks_like_images |= file.suffix.lower() in IMAGE_SUFFIXES


def _series_in(places: Sequence[_Place]) -> Iterator[SeriesFiles]:
    """Yields a series for each id, in the order found, then one for each place without an image."""
    names: set[str] = set()
    series = list(_split_places(places))
    headers = {file.resolve(): header for place in places for file, header in place.files}
    counts = [sum(_n_images(headers[file]) for file in files) for _, files in series]
    for (uid, files), n_images in zip(series, counts, strict=True):
        own = {id(place): place for place in files.values()}.values()
        left_out = tuple(reason for place in own for reason in place.refused)
        localizer = all("LOCALIZER" in headers[file].values.get("ImageType", "").upper() for file in files)
        scout = n_images <= SCOUT_IMAGES and (localizer or max(counts) > SCOUT_IMAGES)
        names.add(uid)
        no_head = f"{n_images} images, a scout" if scout else ""
        yield SeriesFiles(uid, next(iter(own)).name, tuple(files), left_out, no_head)
    above_images = {folder for place in places if place.files for folder in place.name.parents}
    for place in places:
        if not place.files and (place.looks_like_images or place.name not in above_images):
            uid = _unused(place.name.resolve().name, names)
            names.add(uid)
            only_others = 0 < place.n_no_pictures == len(place.refused)
            no_head = "; ".join(place.refused[:3]) if only_others else ""
            yield SeriesFiles(uid, place.name, (), tuple(place.refused), no_head)


def _split_places(places: Sequence[_Place]) -> Iterator[tuple[str, dict[Path, _Place]]]:
    """Yields (id, files with their places) of each series; a file named twice belongs to its first place."""
    first = {file.resolve(): place for place in reversed(places) for file, _ in place.files}
    files = [(place, file, header) for place in places for file, header in place.files]
    files = list({file.resolve(): one for one in files if first[(file := one[1]).resolve()] is one[0]}.values())
    named: dict[str, dict[tuple, list]] = {}
    for one, key in zip(files, series_keys([header for _, _, header in files]), strict=True):
        named.setdefault(_name(one[2], one[0]), {}).setdefault(key, []).append(one)
    by_name = {place.name: place for place in places}
    for name, keyed in named.items():
        for key, members in keyed.items():
            numbers = {other[1] for other in keyed}
            uid = f"{name}-{key[1]}" if len(numbers) > 1 and key[1] else name
            if sum(other[1] == key[1] for other in keyed) > 1:
                uid = split_id(uid, key)
            groups = split_folders([(file, header, place.name) for place, file, header in members])
            for group in groups:
                own = split_id(uid, str(group[0][2])) if len(groups) > 1 else uid
                yield own, {file.resolve(): by_name[folder] for file, _, folder in group}


def _name(header: Header, place: _Place) -> str:
    """SeriesInstanceUID; if missing, StudyInstanceUID if the folder holds several studies, else the folder's name."""
    studies = {header.values.get("StudyInstanceUID") for _, header in place.files}
    study = header.values.get("StudyInstanceUID") if len(studies) > 1 else None
    return header.values.get("SeriesInstanceUID") or study or place.name.resolve().name


def _n_images(header: Header) -> int:
    """Frames of a file by its header; more than SCOUT_IMAGES if a compressed file does not state them."""
    frame_bytes = header.number("Rows") * header.number("Columns") * header.number("BitsAllocated", 16) // 8
    if header.number("NumberOfFrames"):
        return int(header.number("NumberOfFrames"))
    if header.pixel_bytes is None:
        return 1 if header.values.get("SOPClassUID") in ONE_FRAME_CLASSES else SCOUT_IMAGES + 1
    return max(1, int(header.pixel_bytes // max(1, frame_bytes)))


def _unused(name: str, names: set[str]) -> str:
    """The name, with a number if it is taken: every series needs its own file in a report."""
    numbered = (name if i == 1 else f"{name}-{i}" for i in range(1, len(names) + 2))
    return next(one for one in numbered if one not in names)
