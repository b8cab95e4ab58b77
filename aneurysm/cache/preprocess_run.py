"""Preprocesses all series into the cache: disk estimate, one job per series, tables, and a summary as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import pandas as pd

from aneurysm.cache.config import CacheSettings, Storage
from aneurysm.cache.description import read_description
from aneurysm.cache.disk import estimate_bytes, require_disk, stored_share
from aneurysm.cache.jobs import run_jobs
from aneurysm.cache.preprocess import Outcome, died
from aneurysm.cache.tables import unlisted_series, write_meta, write_tables
from aneurysm.paths import CannotWrite, DataPaths


def estimate_disk(
    paths: DataPaths, series_uids: Sequence[str], settings: CacheSettings, slices: bool, storage: Storage
) -> tuple[int, str]:
    """Estimated bytes of the cache of these series, with slice files if `slices`, and the same as text."""
    share = stored_share(paths, series_uids, settings, storage)
    needed = estimate_bytes(paths, series_uids, settings.head_mm, share + slices)
    lines = [f"{len(series_uids)} series, about {needed / 1e9:.1f} GB of cache"]
    if share < 1:
        lines.append(f"compressed to {share:.0%}, by a few slices of a few of them")
    unlisted = unlisted_series(paths, series_uids)
    if unlisted:
        lines.append(
            f"{len(unlisted)} folders in {paths.series} are not in train.csv and are left out, the first: {unlisted[0]}"
        )
    return needed, "\n".join(lines)


def preprocess_all(
    job: Callable[[str], Outcome], paths: DataPaths, series_uids: Sequence[str], needed: int, workers: int, dask: str
) -> tuple[list[Outcome], pd.DataFrame, pd.DataFrame]:
    """The outcome of each series, and the tables that were written: train_meta.csv and preprocess_errors.csv.

    `job` is preprocess_series with every argument but the series; `workers` and `dask` as in run_all. Raises ValueError
    if the disk cannot hold `needed` bytes, CannotWrite if it cannot be written during the run; then train_meta.csv
    lists the series cached so far, if possible.
    """
    caches = (paths.npy_sequence, paths.npy_slice, paths.npy_vessels)
    remedy = "leave the slice files out (no --slices), compress (--storage blosc2) or keep less (--head_mm)"
    require_disk(paths.cache, needed, caches, remedy)
    folders = (*caches, paths.cache)
    try:
        outcomes = run_jobs(job, series_uids, workers, died, dask, folders, paths.preprocess_errors_csv)
    except CannotWrite:
        with suppress(CannotWrite):
            write_meta(paths, [uid for uid in series_uids if _is_cached(paths, uid)])
        raise
    return outcomes, *write_tables(paths, outcomes)


def _is_cached(paths: DataPaths, series_uid: str) -> bool:
    """Whether the series has an undamaged description, from this run or an earlier one."""
    try:
        read_description(paths.npy_sequence / f"{series_uid}.json")
    except ValueError:
        return False
    return True


def summarise(
    paths: DataPaths, outcomes: Sequence[Outcome], meta: pd.DataFrame, errors: pd.DataFrame, verified: bool
) -> str:
    """A summary for the terminal: damaged files, counts, the first error of each kind."""
    damaged = [outcome for outcome in outcomes if outcome.damage]
    lines = []
    if verified or damaged:
        n_made = sum(not outcome.kind for outcome in damaged)
        lines.append(f"{len(damaged)} series were damaged in the cache, {n_made} of them made anew")
        lines += [f"  {sentence}" for outcome in damaged for sentence in outcome.damage]
    was_cached = sum(outcome.was_cached for outcome in outcomes)
    lines.append(f"{len(meta)} series in {paths.npy_sequence} ({was_cached} cached before), {len(errors)} errors")
    lines.append(f"{meta.vessels.sum()} of them with a vessel mask in {paths.npy_vessels}")
    if len(meta):
        lines.append(meta.groupby(["series_type", "plane"]).size().unstack(fill_value=0).to_string())
    lines += [f"{len(rows)} x {kind}, the first: {rows.message.iloc[0]}" for kind, rows in errors.groupby("kind")]
    if len(errors):
        lines.append(f"all errors: {paths.preprocess_errors_csv}")
    return "\n".join(lines)
