"""Runs a job over many series with a progress bar; a disk that cannot be written ends the run with an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from aneurysm.cache.preprocess import CANNOT_WRITE, Outcome
from aneurysm.cache.tables import error_rows
from aneurysm.parallel import run_all
from aneurysm.paths import CannotWrite, remove_leftovers
from aneurysm.tables import write_csv

Item = TypeVar("Item")


def run_jobs(
    job: Callable[[Item], Outcome],
    items: Sequence[Item],
    workers: int,
    died: Callable[[Item], Outcome],
    dask: str,
    folders: Sequence[Path],
    errors_csv: Path,
) -> list[Outcome]:
    """The outcome of each item, in order; removes half-written files of killed runs from `folders`.

    Raises CannotWrite if the disk cannot be written: no further series starts, finished series stay, and unreadable
    series are listed in `errors_csv` if possible.
    """
    done = run_all(job, items, workers, died, dask, ends=_is_refused)
    outcomes = dict(tqdm(done, total=len(items), unit="series", smoothing=0.1))
    for folder in folders:
        remove_leftovers(folder)
    refused = next(filter(_is_refused, outcomes.values()), None)
    if refused is None:
        return [outcomes[i] for i in range(len(items))]
    own = [outcomes[i] for i in sorted(outcomes) if not _is_refused(outcomes[i])]
    with suppress(CannotWrite):
        write_csv(error_rows(own), errors_csv)
    n_done = sum(not outcome.kind for outcome in own)
    raise CannotWrite(f"{refused.message}; {n_done} of {len(items)} series are done")


def _is_refused(outcome: Outcome) -> bool:
    return outcome.kind == CANNOT_WRITE
