"""Zip archives from anywhere: unpacked into a folder, or refused in a sentence."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

MAX_BYTES = 100 * 2**30  # of an unpacked archive
MAX_EXPANSION = 100  # unpacked bytes for each byte of an archive; DICOM files come to 2 to 5
ALWAYS_BYTES = 2**26  # that an archive may have when unpacked, however small it is: blank slices shrink a lot


def unpack(archive: Path, to: Path) -> str:
    """Unpacks a zip archive into the new folder `to`; the reason why it cannot be, or nothing.

    Refused as a whole: members that would lie elsewhere or are links, more than the free disk or the limits above hold.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            to.mkdir(parents=True)
            reason = _refused(opened, archive.stat().st_size, to)
            if not reason:
                opened.extractall(to)  # no more bytes than the members declare
    except Exception as error:  # a password, a full disk, and an error of its own for each kind of damage
        reason = f"cannot be unpacked ({type(error).__name__}: {error})"
    return reason and f"{archive}: {reason}"


def _refused(opened: zipfile.ZipFile, size: int, to: Path) -> str:
    members = opened.infolist()
    outside = [member.filename for member in members if _leaves(member)]
    if outside:
        return f"not unpacked, since {len(outside)} members are links or lie outside of it, the first: {outside[0]!r}"
    needed = sum(member.file_size for member in members)
    free = shutil.disk_usage(to).free
    if needed > free:
        return f"needs {needed / 1e9:.1f} GB when unpacked, {free / 1e9:.1f} GB are free in {to}"
    most = min(MAX_BYTES, max(ALWAYS_BYTES, MAX_EXPANSION * size))
    if needed > most:
        return f"not unpacked, since its {size} bytes would be {needed}, expected at most {most}"
    return ""


def _leaves(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a link, or its name leads out of the folder that it is unpacked to, here or on Windows."""
    path = PurePosixPath(member.orig_filename.replace("\\", "/"))
    named_so = path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", str(path)) is not None
    return named_so or stat.S_ISLNK(member.external_attr >> 16)
