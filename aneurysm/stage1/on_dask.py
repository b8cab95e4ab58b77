"""Runs stage 1 on a Dask cluster of CPUs: one task per series; each worker process caches the last model used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import torch

from aneurysm.parallel import run_on_dask
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.predict import load_stage1
from aneurysm.training.checkpoint import file_hash
from aneurysm.training.data import one_thread
from aneurysm.training.distributed import DistContext

Result = TypeVar("Result")
PredictSeries = Callable[[Stage1Net, Stage1Config, str], Result]  # model, config, uid -> result
ALONE = DistContext(0, 1, torch.device("cpu"))  # context of code that runs on a worker


@dataclass(frozen=True)
class ModelFile:
    """A fold's model by path, so that tasks carry no weights."""

    checkpoint: Path
    fold: int
    sha256: str  # of the file; a worker with a different file fails


@dataclass(frozen=True)
class Failure:
    """The reason why a series has no result."""

    reason: str


class DaskWorkers:
    """The workers of the Dask scheduler at `address` (tcp://...); `failures` maps uid to the reason of its failure.

    The workers need this package, and the data and model folders under the same paths. No workers if it is empty.
    """

    def __init__(self, address: str, world: DistContext):
        """Raises ValueError with several processes (torchrun) or on a GPU: Dask uses neither."""
        if address and (world.size > 1 or world.device.type != "cpu"):
            found = f"{world.size} processes on {world.device.type}"
            raise ValueError(f"--dask {address}: expected one process and --device cpu, found {found}")
        self.address = address
        self.failures: dict[str, str] = {}

    def predict(
        self, predict: PredictSeries, checkpoint: Path, fold: int, series_uids: Sequence[str]
    ) -> Iterator[tuple[str, Result]]:
        """Yields (uid, result) as series finish; those that fail are added to `failures`.

        `predict`, a function at module level, is called on the workers with the model of `checkpoint`, which must have
        held out `fold`, and its configuration.
        """
        if not series_uids:
            return
        job = partial(predict_on_worker, predict, ModelFile(checkpoint.absolute(), fold, file_hash(checkpoint)))
        for index, result in run_on_dask(job, series_uids, _died, self.address):
            if isinstance(result, Failure):
                self.failures[series_uids[index]] = result.reason
            else:
                yield series_uids[index], result

    def check(self) -> None:
        """Raises ValueError naming the series that failed, if any."""
        if self.failures:
            named = "\n".join(f"  {uid}: {reason}" for uid, reason in self.failures.items())
            raise ValueError(f"{len(self.failures)} series have no result from the workers:\n{named}")


def predict_on_worker(predict: PredictSeries, model: ModelFile, series_uid: str) -> Result | Failure:
    """The task of a worker, on one thread; ValueError and OSError become a Failure."""
    one_thread(0)
    try:
        return predict(*_loaded(model), series_uid)
    except (ValueError, OSError) as error:
        return Failure(str(error))


@lru_cache(maxsize=1)
def _loaded(model: ModelFile) -> tuple[Stage1Net, Stage1Config]:
    """The model and its configuration, cached in this process until another one is needed."""
    found = file_hash(model.checkpoint)
    if found != model.sha256:
        raise ValueError(f"{model.checkpoint}: expected the file that begins the run ({model.sha256[:12]}...), "
                         f"found another one ({found[:12]}...) on this worker")  # fmt: skip
    return load_stage1(model.checkpoint, unseen=model.fold)


def _died(series_uid: str) -> Failure:
    return Failure(f"series {series_uid}: each worker process that began it was killed (out of memory, perhaps)")
