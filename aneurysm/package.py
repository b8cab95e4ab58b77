"""Version, commit, presets and bundled weights of the project, in a clone or an installed package."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parent
CLONE = PACKAGE.parent  # site-packages if the project is installed rather than cloned


def version() -> str:
    """The version in pyproject.toml (1.0.0), or `not installed`; in a clone followed by `, commit 1a2b3c4`."""
    commit = _commit()
    return (_release() or "not installed") + (f", commit {commit}" if commit else "")


def code_version() -> str:
    """The clone's commit, else the installed version; `unknown` for a package that was copied by hand."""
    return _commit() or _release() or "unknown"


def pretrained_folder() -> Path:
    """The folder of the pretrained weights."""
    return PACKAGE / "pretrained" if (PACKAGE / "pretrained").is_dir() else CLONE / "model" / "pretrained"


def bundle_folder() -> Path:
    """The folder of the models that predict.py uses by default."""
    return PACKAGE / "bundle" if (PACKAGE / "bundle").is_dir() else CLONE / "model" / "bundle"


def preset_path(given: str) -> Path:
    """The file `given`, else the project's preset of that name: `stage1/demo` or `configs/stage1/demo.yaml`.

    Raises ValueError listing the presets if there is neither.
    """
    if Path(given).is_file():
        return Path(given)
    folder = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else CLONE / "configs"
    presets = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.glob("*/*.yaml"))}
    name = given.removeprefix("configs/").removesuffix(".yaml")
    if name not in presets:
        raise ValueError(f"{given}: expected a file or one of {', '.join(presets)}, found neither")
    return presets[name]


def without_extra(wanted: str, extra: str, error: ImportError) -> ValueError:
    """The error to raise when `wanted` (a flag, a file) needs a package from an extra of pyproject.toml."""
    return ValueError(
        f"{wanted}: expected the packages of the extra `{extra}`, found {str(error).splitlines()[0]}; in the folder of "
        f"the clone: pip install -e .[{extra}] (without -e where the project was installed without)"
    )


def _release() -> str | None:
    try:
        return metadata.version("aneurysm")
    except metadata.PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    """The commit; None outside a clone, where git could report a surrounding repository (of a .venv, say)."""
    if not (CLONE / ".git").exists():
        return None
    command = ["git", "-C", str(CLONE), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
