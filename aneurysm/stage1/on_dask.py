"""Stage 1 on a Dask cluster of CPUs: whole series are the items, and each worker process loads a fold's model once."""

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
PredictSeries = Callable[[Stage1Net, Stage1Config, str], Result]  # about the series with this uid
ALONE = DistContext(0, 1, torch.device("cpu"))  # a worker, to what it runs


@dataclass(frozen=True)
class ModelFile:
    """A fold's model by its place: no weights travel with a question."""

    checkpoint: Path
    fold: int
    sha256: str  # of the file: a worker that sees another one, or has kept an older one, must not answer


@dataclass(frozen=True)
class Failure:
    """In place of an answer: why there is none."""

    reason: str


class DaskWorkers:
    """The workers of the scheduler at `address` (tcp://...), and `failures`: series uid -> why it has no answer.

    They must have this package and see the folders of data and models under the same paths. An empty address: none.
    """

    def __init__(self, address: str, world: DistContext):
        """Raises ValueError where torchrun has started several processes, or on a GPU: Dask makes use of neither."""
        if address and (world.size > 1 or world.device.type != "cpu"):
            found = f"{world.size} processes on {world.device.type}"
            raise ValueError(f"--dask {address}: expected one process and --device cpu, found {found}")
        self.address = address
        self.failures: dict[str, str] = {}

    def predict(
        self, predict: PredictSeries, checkpoint: Path, fold: int, series_uids: Sequence[str]
    ) -> Iterator[tuple[str, Result]]:
        """(series uid, answer) as they come, each once; a series without an answer goes to `failures`.

        `question` goes to the workers by its name, with the model that has not seen `fold` and its configuration.
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
        """Raises ValueError naming the series without an answer, if there are any."""
        if self.failures:
            named = "\n".join(f"  {uid}: {reason}" for uid, reason in self.failures.items())
            raise ValueError(f"{len(self.failures)} series have no answer from the workers:\n{named}")


def predict_on_worker(predict: PredictSeries, model: ModelFile, series_uid: str) -> Result | Failure:
    """What runs on a worker, on one thread."""
    one_thread(0)
    try:
        return predict(*_loaded(model), series_uid)
    except (ValueError, OSError) as error:
        return Failure(str(error))


@lru_cache(maxsize=1)
def _loaded(model: ModelFile) -> tuple[Stage1Net, Stage1Config]:
    """The model, kept by this process until another one is asked."""
    found = file_hash(model.checkpoint)
    if found != model.sha256:
        raise ValueError(f"{model.checkpoint}: expected the file that begins the run ({model.sha256[:12]}...), "
                         f"found another one ({found[:12]}...) on this worker")  # fmt: skip
    return load_stage1(model.checkpoint, unseen=model.fold)


def _died(series_uid: str) -> Failure:
    return Failure(f"series {series_uid}: each worker process that began it was killed (out of memory, perhaps)")
