"""Folders and time limits of a submission: Kaggle's by default, overridden by environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

PREFIX = "ANEURYSM_"
COMPETITION = {"series", "segmentations"}  # folders with a million files and no bundle


@dataclass(frozen=True)
class KaggleSettings:
    """The environment variable ANEURYSM_<FIELD> overrides each field; for folders, an empty value means None.

    input            folder that contains the bundle, a folder with card.json, at any depth
    bundle           the bundle itself, needed if there are several below `input`
    out              folder for the log; None: no log
    shared           folder that is emptied after each series; None: nothing is emptied
    device           cpu, cuda (all GPUs), or auto
    threads          number of threads that decode a series
    batch_size       windows per batch
    hours            length of the session
    reserve_minutes  part of the session reserved for the start, the end and delays
    n_series         expected number of series
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
        """Seconds from the start until the last series must be answered."""
        return self.hours * 3600 - self.reserve_minutes * 60


def read_settings(environment: Mapping[str, str]) -> KaggleSettings:
    """The settings; ValueError naming a variable that is misspelt or whose value has the wrong type."""
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
    """The bundle named in the settings, or the only one below `input`; ValueError if there is none or several."""
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
