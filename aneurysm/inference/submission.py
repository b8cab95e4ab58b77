"""A submission: every series has a row of 14 probabilities, in time, whatever is in its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from aneurysm.inference.bundle import read_bundle
from aneurysm.inference.clock import Clock
from aneurysm.inference.kaggle_settings import KaggleSettings
from aneurysm.inference.predict import Predictor
from aneurysm.labels import LABELS

LEAST_S = 0.5  # less time than this is too little to read anything
LOG = "kaggle_inference.jsonl"
UNKNOWN = 0.5  # where not even the prevalence is a number


@dataclass(frozen=True)
class _Said:
    """The answer about a series, and what the log tells of it."""

    probabilities: np.ndarray
    failure: str = ""
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Submission:
    """Loaded models that are asked about one series after another, against the clock."""

    def __init__(self, settings: KaggleSettings, predictor: Predictor, clock: Clock):
        self.settings, self.predictor, self.clock = settings, predictor, clock
        self.n_failures = 0

    @classmethod
    def start(cls, settings: KaggleSettings, bundle: Path) -> Submission:
        """Loads the models onto all devices and asks them once; the clock runs from now on.

        Raises ValueError naming the file of the bundle that is missing or damaged.
        """
        clock = Clock(settings.total_s, settings.n_series)
        torch.set_num_threads(settings.threads)
        predictor = Predictor(
            read_bundle(bundle), devices(settings.device), batch_size=settings.batch_size, threads=settings.threads
        )
        predictor.warm_up()
        return cls(settings, predictor, clock)

    def answer(self, series_path: str) -> Any:
        """One row about the series in a folder: a frame of the 14 LABELS, in [0, 1]. Never raises.

        What cannot be answered has the training prevalences. Last of all, the shared folder is emptied.
        """
        start, budget_s = perf_counter(), self.clock.next_budget_s()
        said = self._ask(Path(series_path), budget_s)
        self.n_failures += bool(said.failure)
        self._log(Path(series_path).name, perf_counter() - start, budget_s, said)
        frame = one_row(said.probabilities)
        if self.settings.shared is not None:
            empty(self.settings.shared)
        return frame

    def _ask(self, folder: Path, budget_s: float) -> _Said:
        if budget_s < LEAST_S:
            return self._prevalence("", left_out=("everything: the time of the submission is over",))
        try:
            found = self.predictor.predict_series(folder, budget_s=budget_s)
            if not np.isfinite(found.probabilities).all():
                return self._prevalence(f"expected probabilities, found {found.probabilities}")
            return _Said(np.clip(found.probabilities, 0, 1), found.failure, found.left_out, found.warnings)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit would hang the server, and a panic in Rust is no Exception
            return self._prevalence(f"{type(error).__name__}: {error}")

    def _prevalence(self, failure: str, left_out: tuple[str, ...] = ()) -> _Said:
        known = np.asarray(self.predictor.prevalence, float)
        return _Said(np.clip(np.where(np.isfinite(known), known, UNKNOWN), 0, 1), failure, left_out)

    def _log(self, uid: str, seconds: float, budget_s: float, said: _Said) -> None:
        """One line of JSON; a disk that is full stops nothing."""
        if said.failure or said.left_out:
            print(uid, said.failure, *said.left_out, sep="; ", flush=True)
        if self.settings.out is None:
            return
        line = {"uid": uid, "seconds": round(seconds, 3), "budget_s": round(budget_s, 3), "failure": said.failure,
                "left_out": said.left_out, "warnings": said.warnings, "failures": self.n_failures}  # fmt: skip
        try:
            with open(self.settings.out / LOG, "a") as file:
                file.write(json.dumps(line, default=str) + "\n")
        except OSError as error:
            print(f"warning: {self.settings.out / LOG}: {error}", flush=True)


def devices(name: str) -> list[torch.device]:
    """Every GPU, or the CPU: cpu, cuda, or auto, which takes what there is."""
    n_gpus = 0 if name == "cpu" else torch.cuda.device_count()
    if name == "cuda" and not n_gpus:
        raise ValueError("expected a GPU, found none: switch on an accelerator for the notebook")
    return [torch.device("cuda", number) for number in range(n_gpus)] or [torch.device("cpu")]


def one_row(probabilities: np.ndarray) -> Any:
    """A frame of polars, or of pandas where polars is not installed, with the 14 LABELS as columns."""
    row = dict(zip(LABELS, np.asarray(probabilities, float).tolist(), strict=True))
    try:
        import polars
    except ImportError:
        import pandas

        return pandas.DataFrame([row])
    return polars.DataFrame([row])


def empty(folder: Path) -> None:
    """Removes what is in a folder, as far as that is allowed; links are removed, and what they lead to stays."""
    try:
        content = list(folder.iterdir())
    except OSError:
        return
    for path in content:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            try:
                path.unlink()
            except OSError as error:
                print(f"warning: {error}", flush=True)
