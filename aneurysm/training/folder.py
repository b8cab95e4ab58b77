"""The folder of a run: checkpoints and history, and resuming from them with the same settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aneurysm.lock import locked
from aneurysm.training.checkpoint import load_checkpoint, save_checkpoint, save_state
from aneurysm.training.config import TrainingConfig
from aneurysm.training.data import COLUMNS
from aneurysm.training.distributed import DistContext
from aneurysm.training.state import PLATEAU, Run
from aneurysm.training.sync import RunCopies
from aneurysm.training.tracking import Seen, Tracker

RESUME = "resume.pth"
_NOT_SCORES = ("epoch", "loss", "lr", "skipped", *COLUMNS)
# Settings that may change on resuming: they do not affect samples, their order or the learning rate.
MAY_DIFFER = frozenset(
    "accumulate precision compile channels_last skip_nan workers log_every tensorboard wandb sync activations".split()
)
NOTHING = "nothing"


class RunFolder:
    """Writes checkpoints, history and their copies; only the main process writes.

    `about` is saved in the checkpoints, with config. The copies get the path of the folder below `model_dir`.
    """

    def __init__(self, path: Path, model_dir: Path, config: TrainingConfig, about: dict[str, Any], world: DistContext):
        self.path, self.config, self.world = path, config, world
        self.about = {"training": asdict(config)} | about
        self._copies = RunCopies(config.sync, path, model_dir, world)
        self._history: list[dict] = []
        self._tracker: Tracker | None = None

    def locked_for_writing(self) -> AbstractContextManager[None]:
        """A lock against other runs in this folder, held by the main process; ValueError naming the run that has it."""
        if not self.world.is_main:
            return nullcontext()
        return locked(self.path.parent, f"train-{self.path.name}")

    def open(self, run: Run, resume: bool) -> dict[str, float]:
        """Starts logging; with `resume`, loads the run's state from resume.pth, here or fetched from the copies.

        Returns the scores of its last epoch, {} without any. Every process must call it. Raises ValueError naming the
        file if it is damaged or has other settings.
        """
        if resume:
            self._copies.fetch()
            if (self.path / RESUME).exists():
                saved = load_checkpoint(self.path / RESUME)
                check_settings(self.path / RESUME, saved.get("config", {}), self.about)
                run.load(saved["run"], self.world)
                self._history = saved["history"]
        if self.world.is_main:
            tensorboard, wandb = self.config.tensorboard, self.config.wandb
            self._tracker = Tracker(self.path, self._history, tensorboard, wandb, self.about)
        return {k: v for k, v in self._history[-1].items() if k not in _NOT_SCORES} if self._history else {}

    def report_step(self, step: int, seen: Seen) -> None:
        """Logs the statistics of one optimizer step, if any."""
        if self._tracker is not None and seen:
            self._tracker.report_step(step, seen)

    def save_epoch(self, run: Run, row: dict[str, float], scores: dict[str, float], state: dict[str, Any]) -> None:
        """Writes last.pth, best.pth if this epoch has the highest score (NaN never is), and finally resume.pth."""
        if self._tracker is None:
            return
        self._tracker.report({"epoch": run.epoch} | row | scores)
        save_checkpoint(self.path / "last.pth", run.evaluated_model, self.about, scores, run.epoch)
        if math.isnan(scores.get("score", -math.inf)):  # not every epoch is evaluated
            print(f"epoch {run.epoch}: the score is NaN, best.pth stays as it is")
        if run.best_epoch == run.epoch:
            save_checkpoint(
                self.path / "best.pth", run.evaluated_model, self.about | {"optimistic": True}, scores, run.epoch
            )
        self.save_resume(state)

    def save_resume(self, state: dict[str, Any]) -> None:
        """Writes resume.pth, the only file written within an epoch, and starts the copies."""
        if self._tracker is not None:
            content = {"run": state, "history": self._tracker.rows, "config": self.about}
            save_state(self.path / RESUME, content)
            self._copies.changed(self._tracker.rows, state["step"])

    def close(self) -> None:
        """Closes the logs and waits for the copies."""
        if self._tracker is not None:
            self._tracker.close()
        self._copies.close()


def check_settings(path: Path, begun: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises ValueError naming the file and the settings that differ between its run (`begun`) and `now`.

    MAY_DIFFER are ignored, and so is the number of epochs if the schedule does not depend on it.
    """
    may_differ = MAY_DIFFER | {"epochs"} if _may_be_longer(begun) else MAY_DIFFER
    found, expected = dict(_flat(begun, may_differ)), dict(_flat(now, may_differ))
    names = [name for name in expected | found if expected.get(name, NOTHING) != found.get(name, NOTHING)]
    if names:
        differences = "; ".join(f"{name} {_short(expected, name)}, found {_short(found, name)}" for name in names)
        raise ValueError(
            f"{path}: cannot resume, settings differ: expected {differences}. Without --resume training starts anew"
        )


def _may_be_longer(settings: dict[str, Any]) -> bool:
    """Whether more epochs leave the learning rate unchanged: for a plateau, unless the last epoch adds a score."""
    training = settings.get("training", {})
    every_epoch = training.get("plateau_on") == "loss" or training.get("evaluate_every") == 1
    return training.get("schedule") == PLATEAU and every_epoch


def _flat(settings: dict[str, Any], may_differ: frozenset[str], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if name in may_differ:
            continue
        if isinstance(value, dict):
            yield from _flat(value, may_differ, f"{before}{name}.")
        else:
            yield before + name, value


def _short(settings: dict[str, Any], name: str) -> str:
    text = str(settings.get(name, NOTHING))
    return text if len(text) <= 60 else f"{text[:60]}..."
