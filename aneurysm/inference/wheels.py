"""Makes decoders in wheel files importable, without pip or internet.

Call it before importing pydicom, which looks for decoders only once. Imports nothing that could import pydicom.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile, ZipFile


def add_wheels(bundle: Path) -> list[str]:
    """Unpacks the wheels in wheels/, in the bundle or beside it, whose modules are not installed; one line about each.

    They go to a temporary folder at the end of sys.path, so installed packages take precedence.
    """
    wheels = [wheel for folder in (bundle, bundle.parent) for wheel in sorted((folder / "wheels").glob("*.whl"))]
    if not wheels:
        return []
    unpacked = Path(tempfile.mkdtemp(prefix="wheels"))
    sys.path.append(str(unpacked))
    lines = [f"{wheel.name}: {_add(wheel, unpacked)}" for wheel in wheels]
    invalidate_caches()
    return lines


def _add(wheel: Path, unpacked: Path) -> str:
    if not _fits(wheel):
        return "left out, since it is for another Python or system"
    try:
        with ZipFile(wheel) as archive:
            modules = _modules(archive.namelist())
            if any(find_spec(module) is not None for module in modules):
                return f"left out, since {', '.join(sorted(modules))} can be imported"
            archive.extractall(unpacked)
    except (OSError, BadZipFile) as error:
        return f"left out, {error}"
    return "added"


def _fits(wheel: Path) -> bool:
    from packaging.tags import sys_tags  # a dependency of timm
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        return not parse_wheel_filename(wheel.name)[3].isdisjoint(sys_tags())
    except InvalidWheelFilename:
        return False


def _modules(names: Iterable[str]) -> set[str]:
    """The top-level packages and modules of a wheel (compiled ones belong to a package, or are its helpers)."""
    modules = {name.split("/")[0] for name in names if name.count("/") == 1 and name.endswith("/__init__.py")}
    return modules | {name.removesuffix(".py") for name in names if "/" not in name and name.endswith(".py")}
