"""Lists all files below a folder; follows links to folders, visits each folder once, and avoids loops."""

from __future__ import annotations

import os
from pathlib import Path


def folders_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """(the folder and all folders in it, links that are not followed), in a fixed order.

    Links to folders are followed. Each folder appears once, under its real name rather than a link's. A link to a
    folder that contains `folder` is not followed, since it leads outside.
    """
    found: dict[str, str] = {}
    links, left_out = [str(folder)], []
    while links:
        link = links.pop(0)
        real = os.path.realpath(link)
        if real in found:
            continue
        if found and os.path.realpath(folder).startswith(os.path.join(real, "")):
            left_out.append(Path(link))
            continue
        for place, names, _ in os.walk(link):
            if os.path.realpath(place) in found:
                names.clear()
                continue
            found[os.path.realpath(place)] = place
            links += [path for name in sorted(names) if os.path.islink(path := os.path.join(place, name))]
    return sorted(map(Path, found.values())), left_out


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and in its subfolders, linked ones included (see folders_below), in a fixed order."""
    return [Path(file) for file in sorted(file for place in folders_below(folder)[0] for file in _files_in(place))]


def _files_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if not entry.is_dir()]
    except OSError:  # not readable: skipped, as os.walk does
        return []
