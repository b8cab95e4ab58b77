"""Whether a run may go on with the settings of a command: with those that it was begun with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What leaves the samples, their order and the learning rate alone: how fast, how exactly and how loudly it is done.
FREE = frozenset(
    "accumulate precision compile channels_last skip_nan workers tensorboard wandb sync activations".split()
)
NOTHING = "nothing"


def check_settings(path: Path, begun: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises ValueError naming the file and what differs, where the run in it was `begun` with other settings.

    Those of FREE may differ, and more epochs may be trained where the learning rate does not follow their number.
    """
    free = FREE | {"epochs"} if _follows_the_loss(begun) else FREE
    found, expected = dict(_flat(begun, free)), dict(_flat(now, free))
    names = [name for name in expected | found if expected.get(name, NOTHING) != found.get(name, NOTHING)]
    if names:
        told = "; ".join(f"{name} {_short(expected, name)}, found {_short(found, name)}" for name in names)
        raise ValueError(f"{path}: a run goes on as it was begun: expected {told}. Without --resume one begins anew")


def _follows_the_loss(settings: dict[str, Any]) -> bool:
    training = settings.get("training", {})
    return (training.get("schedule"), training.get("plateau_on")) == ("plateau", "loss")


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
