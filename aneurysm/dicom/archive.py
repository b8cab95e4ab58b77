"""Unpacks untrusted zip archives into a folder, or refuses them with a reason."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

MAX_BYTES = 100 * 2**30  # of an unpacked archive
MAX_EXPANSION = 100  # unpacked bytes per byte of the archive; 2 to 5 are usual for DICOM files
ALWAYS_BYTES = 2**26  # unpacked size that is always allowed: blank slices compress very well


def unpack(archive: Path, to: Path) -> str:
    """Unpacks a zip archive into the new folder `to`; returns the reason if that fails, else "".

    Refuses the whole archive if a member is a link or would be written outside `to`, or if the unpacked size exceeds
    the free disk or the limits above.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            to.mkdir(parents=True)
            reason = _refused(opened, archive.stat().st_size, to)
            if not reason:
                opened.extractall(to)  # writes no more bytes than the members declare
    except Exception as error:  # a password, a full disk, and a different error for each kind of damage
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
    """Whether a member is a link, or its name points outside the target folder, here or on Windows."""
    path = PurePosixPath(member.orig_filename.replace("\\", "/"))
    named_so = path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", str(path)) is not None
    return named_so or stat.S_ISLNK(member.external_attr >> 16)
