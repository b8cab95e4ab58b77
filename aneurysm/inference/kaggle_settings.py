"""Where a submission finds and leaves its files, and how long it may take: Kaggle's, unless the environment differs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

PREFIX = "ANEURYSM_"
COMPETITION = {"series", "segmentations"}  # folders with a million files, in which there is no bundle


@dataclass(frozen=True)
class KaggleSettings:
    """Each field is overridden by the environment variable ANEURYSM_<FIELD>; an empty one names no folder.

    input            folder below which the bundle lies, in a folder of its own that holds card.json
    bundle           the bundle itself, where there are several below `input`
    out              folder for the log
    shared           folder that is emptied after each series; None where nothing is to be emptied
    device           cpu, cuda (all GPUs), or auto
    threads          that decode a series
    batch_size       windows that are encoded at a time
    hours            that the session lasts
    reserve_minutes  of them that are kept for the start, the end, and what nobody thought of
    n_series         that are expected
    """

    input: Path | None = Path("/kaggle/input")
    bundle: Path | None = None
    out: Path | None = Path("/kaggle/working")
    shared: Path | None = Path("/kaggle/shared")
    device: str = "auto"
    threads: int = os.cpu_count() or 1
    batch_size: int = 32
    hours: float = 12.0
    reserve_minutes: float = 30.0
    n_series: int = 2500

    @property
    def total_s(self) -> float:
        """Seconds from the start until the last series has to be answered."""
        return self.hours * 3600 - self.reserve_minutes * 60


def read_settings(environment: Mapping[str, str]) -> KaggleSettings:
    """The settings; ValueError naming the variable that is misspelt or holds no such value."""
    kinds = {PREFIX + field.name.upper(): field for field in fields(KaggleSettings)}
    given = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in kinds:
            raise ValueError(f"{variable}: expected one of {', '.join(kinds)}")
        field = kinds[variable]
        read = {"int": int, "float": float, "str": str}.get(field.type, _folder)
        try:
            given[field.name] = read(text)
        except ValueError as error:
            raise ValueError(f"{variable}: expected {field.type}, found {text!r}") from error
    return KaggleSettings(**given)


def find_bundle(settings: KaggleSettings) -> Path:
    """The bundle that the settings name, or the only one below `input`; ValueError where there is not one."""
    if settings.bundle is not None:
        return settings.bundle
    found = []
    for place, folders, files in os.walk(settings.input) if settings.input else ():
        folders[:] = sorted(set(folders) - COMPETITION)
        if "card.json" in files and any(name.endswith(".safetensors") for name in files):
            found.append(Path(place))
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise ValueError(f"{settings.input}: expected one bundle or {PREFIX}BUNDLE, found {listed}")
    return found[0]


def _folder(text: str) -> Path | None:
    return Path(text) if text else None
