"""All files below a folder, those of linked folders included: each folder once, and no loop."""

from __future__ import annotations

import os
from pathlib import Path


def folders_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """(the folder and all folders in it, links that are not followed), in a fixed order.

    Links to folders are followed, each folder once, under its own name rather than a link's; one to a folder that
    holds `folder` itself is not, since it would lead out of it.
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
    """All files in a folder and the folders in it, linked ones included (folders_below), in a fixed order."""
    return [Path(file) for file in sorted(file for place in folders_below(folder)[0] for file in _files_in(place))]


def _files_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if not entry.is_dir()]
    except OSError:  # as os.walk, which lists what this user may see
        return []
