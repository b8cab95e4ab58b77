"""Which series lie in the folders, files and archives that a person names: told apart by SeriesInstanceUID, and by
what contradicts within it."""

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
SCOUT_IMAGES = 2  # a series of so many, beside larger ones, shows no head


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series.

    uid       SeriesInstanceUID; where it is missing, or nothing can be read, the name of the folder (several studies
              in one folder: StudyInstanceUID). Of several series that share it (split_series): with a dash and eight
              digits, or their SeriesNumber, that are the same in every run
    folder    where they were found, as a person would name it (inside an archive: below the archive's name)
    left_out  why other files there are not images, one sentence each
    no_head   why this is no series to be asked about, though nothing is wrong with it: scouts, reports; else ""
    """

    uid: str
    folder: Path
    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()
    no_head: str = ""

    def fingerprint(self) -> str:
        """Changes when a file comes, goes or has another size; not when all are moved or unpacked again."""
        facts = sorted((file.name.encode("utf-8", "surrogateescape"), file.stat().st_size) for file in self.files)
        return hashlib.sha256(repr(facts).encode()).hexdigest()


@dataclass
class _Place:
    """A folder on disk, under the name that it is shown by, and what was found in it."""

    name: Path
    files: list[tuple[Path, Header]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    looks_like_images: bool = False  # something in it should be an image, by its name, and is none
    n_no_pictures: int = 0  # of those refused, DICOM objects of other kinds


def find_series(paths: Sequence[Path], unpack_to: Path) -> Iterator[SeriesFiles]:
    """Every series below `paths`: folders at any depth, single files, zip archives (unpacked below `unpack_to`;
    archives in them are files like others).

    A series that lies in several of them is one, unless they contradict (split_series); files without a
    SeriesInstanceUID, as the competition has them, are a series for each folder and study; a file that is named twice
    counts once. A folder without any image is
    a series without files, and so are a missing path and a damaged archive: nothing that was asked for is lost. But a
    folder above images need not hold one itself, if it does not look so (README.txt, say).
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
    """The series to be asked about, and a sentence on each that is left out (no_head)."""
    found = list(found)
    asked = [series for series in found if not series.no_head]
    return asked, [f"{series.folder} ({series.uid}): {series.no_head}" for series in found if series.no_head]


def _files_of(path: Path, unpacked: Path) -> Iterator[tuple[Path | str, Path]]:
    """(file, folder as a person names it); in place of a file why there is none, or "" for an empty folder."""
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
    """Whether neither a file or folder nor a folder above it, up to `root`, is hidden or what macOS adds."""
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
    """One for each SeriesInstanceUID, in the order in which they were met, and for each place without an image."""
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
    """(id, files with their places) of each series; a file that is named twice belongs to its first place."""
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
    """SeriesInstanceUID, or where it is missing the folder's name, or its study's where it holds several."""
    studies = {header.values.get("StudyInstanceUID") for _, header in place.files}
    study = header.values.get("StudyInstanceUID") if len(studies) > 1 else None
    return header.values.get("SeriesInstanceUID") or study or place.name.resolve().name


def _n_images(header: Header) -> int:
    """Frames of a file, as far as its header tells; many where a compressed one does not."""
    frame_bytes = header.number("Rows") * header.number("Columns") * header.number("BitsAllocated", 16) // 8
    if header.number("NumberOfFrames"):
        return int(header.number("NumberOfFrames"))
    if header.pixel_bytes is None:
        return 1 if header.values.get("SOPClassUID") in ONE_FRAME_CLASSES else SCOUT_IMAGES + 1
    return max(1, int(header.pixel_bytes // max(1, frame_bytes)))


def _unused(name: str, names: set[str]) -> str:
    """The name, numbered where it is taken: every series has a file of its own in a report."""
    numbered = (name if i == 1 else f"{name}-{i}" for i in range(1, len(names) + 2))
    return next(one for one in numbered if one not in names)
