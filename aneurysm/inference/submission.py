"""A submission: every series has a row of 14 probabilities, in time, whatever is in its folder."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
import torch

from aneurysm.escape import escape_control_characters
from aneurysm.inference.clock import Clock
from aneurysm.inference.kaggle_settings import KaggleSettings
from aneurysm.inference.predict import Predictor
from aneurysm.labels import LABELS
from aneurysm.training.distributed import all_devices

LEAST_S = 0.5  # with less time than this, nothing is read
HANGS_S = 28 * 60.0  # a series is abandoned after this: the gateway aborts the call after 30 minutes
LOG = "kaggle_inference.jsonl"
UNKNOWN = 0.5  # if even the prevalence is not finite


@dataclass(frozen=True)
class _Result:
    """The probabilities of a series, and its log entry."""

    probabilities: np.ndarray
    failure: str = ""
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    steps_s: dict[str, float] = field(default_factory=dict)


class Submission:
    """Loaded models that predict one series after another within the time limit."""

    def __init__(self, settings: KaggleSettings, predictor: Predictor, clock: Clock):
        self.settings, self.predictor, self.clock = settings, predictor, clock
        self.frames, self.n_failures = frame_library(), 0

    @classmethod
    def start(cls, settings: KaggleSettings, bundle: Path) -> Submission:
        """Loads the models onto all devices and warms them up; the clock starts before that.

        Raises ValueError naming the file of the bundle that is missing or damaged.
        """
        clock = Clock(settings.total_s, settings.n_series)
        torch.set_num_threads(settings.threads)
        predictor = Predictor.of_bundle(
            bundle, all_devices(settings.device), batch_size=settings.batch_size, threads=settings.threads
        )
        predictor.warm_up()
        print(
            *predictor.notes,
            f"{len(predictor.models)} models on {', '.join(map(str, predictor.devices))}",
            sep="\n",
            flush=True,
        )
        return cls(settings, predictor, clock)

    def predict(self, series_path: str) -> Any:
        """One row for the series in a folder: a data frame of the 14 LABELS, in [0, 1]. Never raises.

        A series that fails gets the training prevalences. Empties the shared folder at the end.
        """
        start, budget_s = perf_counter(), self.clock.next_budget_s()
        result = self._predict_within(HANGS_S, Path(series_path), budget_s)
        self.n_failures += bool(result.failure)
        with suppress(Exception):  # a full disk, or a closed stdout
            self._log(Path(series_path).name, perf_counter() - start, budget_s, result)
        row = self.frames.DataFrame([dict(zip(LABELS, result.probabilities.tolist(), strict=True))])
        if self.settings.shared is not None:
            empty(self.settings.shared)
        return row

    def _predict_within(self, limit_s: float, folder: Path, budget_s: float) -> _Result:
        """Predicts in a thread, which is abandoned if it hangs in a decoder or a read; it then runs no model."""
        result: SimpleQueue[_Result] = SimpleQueue()
        given_up = Event()
        Thread(target=lambda: result.put(self._predict(folder, budget_s, given_up)), daemon=True).start()
        try:
            return result.get(timeout=limit_s)
        except Empty:
            given_up.set()
            return self._prevalence(f"no answer within {limit_s:.0f} s")

    def _predict(self, folder: Path, budget_s: float, given_up: Event) -> _Result:
        if budget_s < LEAST_S:
            return self._prevalence("", left_out=("everything: the time of the submission is over",))
        try:
            found = self.predictor.predict_series(folder, budget_s=budget_s, given_up=given_up)
            if found.probabilities.shape != (len(LABELS),) or not np.isfinite(found.probabilities).all():
                return self._prevalence(f"expected {len(LABELS)} probabilities, found {found.probabilities}")
            known = np.clip(found.probabilities, 0, 1)
            return _Result(known, found.failure, found.left_out, found.warnings, found.seconds)
        except BaseException as error:  # SystemExit would hang the server; a Rust panic is not an Exception
            return self._prevalence(f"{type(error).__name__}: {error}")

    def _prevalence(self, failure: str, left_out: tuple[str, ...] = ()) -> _Result:
        known = np.asarray(self.predictor.prevalence, float)
        return _Result(np.clip(np.where(np.isfinite(known), known, UNKNOWN), 0, 1), failure, left_out)

    def _log(self, uid: str, seconds: float, budget_s: float, result: _Result) -> None:
        """Appends a line of JSON to the log; also prints it in short if something went wrong."""
        if result.failure or result.left_out:
            print(escape_control_characters("; ".join([uid, result.failure, *result.left_out])), flush=True)
        if self.settings.out is None:
            return
        steps_s = {name: round(step_s, 3) for name, step_s in result.steps_s.items()}
        line = {"uid": uid, "seconds": round(seconds, 3), "budget_s": round(budget_s, 3), "steps": steps_s,
                "failure": result.failure, "left_out": result.left_out, "warnings": result.warnings,
                "failures": self.n_failures}  # fmt: skip
        with open(self.settings.out / LOG, "a") as file:
            file.write(json.dumps(line, default=str) + "\n")


def frame_library() -> ModuleType:
    """Polars, or pandas if polars cannot be imported: always the same one, as the gateway requires."""
    try:
        import polars as library
    except Exception:  # not installed, or built for another processor
        import pandas as library
    return library


def empty(folder: Path) -> None:
    """Deletes the contents of a folder, as far as permitted; links are deleted, their targets are not."""
    with suppress(OSError):  # the folder does not exist
        for path in list(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):  # not permitted: go on with the next
                    path.unlink()
