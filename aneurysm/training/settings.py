"""Whether a run may go on with the settings of a command: with those that it was begun with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aneurysm.training.schedule import PLATEAU

# What leaves the samples, their order and the learning rate alone: how fast, how exactly and how loudly it is done.
FREE = frozenset(
    "accumulate precision compile channels_last skip_nan workers tensorboard wandb sync activations".split()
)
NOTHING = "nothing"


def check_settings(path: Path, begun: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises ValueError naming the file and what differs, where the run in it was `begun` with other settings.

    Those of FREE may differ, and more epochs may be trained where the learning rate does not follow their number.
    """
    free = FREE | {"epochs"} if _may_be_longer(begun) else FREE
    found, expected = dict(_flat(begun, free)), dict(_flat(now, free))
    names = [name for name in expected | found if expected.get(name, NOTHING) != found.get(name, NOTHING)]
    if names:
        differences = "; ".join(f"{name} {_short(expected, name)}, found {_short(found, name)}" for name in names)
        raise ValueError(
            f"{path}: cannot resume, settings differ: expected {differences}. Without --resume training starts anew"
        )


def _may_be_longer(settings: dict[str, Any]) -> bool:
    """A plateau does not know where the end is, unless it looks at scores, which the last epoch always has."""
    training = settings.get("training", {})
    every_epoch = training.get("plateau_on") == "loss" or training.get("evaluate_every") == 1
    return training.get("schedule") == PLATEAU and every_epoch


def _flat(settings: dict[str, Any], free: frozenset[str], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if name in free:
            continue
        if isinstance(value, dict):
            yield from _flat(value, free, f"{before}{name}.")
        else:
            yield before + name, value


def _short(settings: dict[str, Any], name: str) -> str:
    text = str(settings.get(name, NOTHING))
    return text if len(text) <= 60 else f"{text[:60]}..."
