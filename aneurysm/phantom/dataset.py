"""Makes a synthetic data set in the competition's layout: files, train.csv, train_localizers.csv and truth.csv."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from aneurysm.labels import LOCATIONS, PRESENT
from aneurysm.parallel import run_all
from aneurysm.paths import atomic_write
from aneurysm.phantom.config import PhantomConfig
from aneurysm.phantom.plan import POSITIVES, Case, make_plan
from aneurysm.phantom.series import make_series

LOCALIZERS = 2251  # rows of the competition's train_localizers.csv, one of them a duplicate
WITHOUT_LOCALIZERS = 2  # positive series of the competition without localizers


def make_dataset(config: PhantomConfig) -> pd.DataFrame:
    """Makes the missing series and writes the tables; returns truth.csv, one row per series.

    An interrupted run can be resumed: each finished series has a record in <out>/.phantoms/. Raises ValueError if <out>
    contains other data (phantoms of other settings or source code, competition files) or a worker is killed twice.
    """
    out = Path(config.out)
    _claim(out, config)
    plan = make_plan(config.n_series, config.seed, config.clean, config.balanced)
    missing = [case for case in plan if not _record_path(out, case).exists()]
    jobs = run_all(partial(_make_one, config), missing, config.workers, _died)
    for _ in tqdm(jobs, total=len(missing), desc="series", smoothing=0):
        pass
    return _write_tables(out, sorted(plan, key=lambda case: case.series_uid), config)


def _died(case: Case) -> None:
    raise ValueError(f"series {case.series_uid}: its worker process was killed twice (out of memory?)")


def _make_one(config: PhantomConfig, case: Case) -> None:
    """Makes one series in a temporary folder and renames it into place; writes its record last."""
    cv2.setNumThreads(1)
    out, uid = Path(config.out), case.series_uid
    partial = out / ".phantoms" / f"{uid}.partial"
    place, mask_place = out / "series" / uid, out / "segmentations" / uid
    for leftover in (partial, place, mask_place):
        shutil.rmtree(leftover, ignore_errors=True)
    (partial / "series").mkdir(parents=True)
    (partial / "mask").mkdir()
    mask_path = partial / "mask" / f"{uid}_cowseg.nii"
    record = make_series(case, config.seed, config.size, config.clean, partial / "series", mask_path, config.style)
    (partial / "series").rename(place)
    if case.masked:
        (partial / "mask").rename(mask_place)
    shutil.rmtree(partial)
    with atomic_write(_record_path(out, case)) as beside:
        beside.write_text(json.dumps(record))


def _claim(out: Path, config: PhantomConfig) -> None:
    """Records settings and a hash of the generator's source in the folder; ValueError if it contains other data."""
    settings = {name: getattr(config, name) for name in ("n_series", "seed", "size", "clean", "balanced", "style")}
    sources = sorted(Path(__file__).parent.glob("*.py"))
    settings["generator"] = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    mark = out / ".phantoms" / "settings.json"
    if mark.exists():
        found = json.loads(mark.read_text())
        if found != settings:
            raise ValueError(f"{out}: holds phantoms of {found}, expected {settings}; give another --out or delete it")
    elif (out / "train.csv").exists() or any((out / "series").glob("*")):
        raise ValueError(f"{out}: expected an empty folder, found a data set that this script did not make")
    for folder in (".phantoms", "series", "segmentations"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    with atomic_write(mark) as beside:
        beside.write_text(json.dumps(settings))


def _record_path(out: Path, case: Case) -> Path:
    return out / ".phantoms" / f"{case.series_uid}.json"


def _write_tables(out: Path, cases: list[Case], config: PhantomConfig) -> pd.DataFrame:
    """Writes the three CSV files, one row per series or localizer, in the order of the UIDs (hashes)."""
    records = [json.loads(_record_path(out, case).read_text()) for case in cases]
    rows = [
        (case.series_uid, *row) for case, record in zip(cases, records, strict=True) for row in record["localizers"]
    ]
    localizers = pd.DataFrame(rows, columns=["SeriesInstanceUID", "SOPInstanceUID", "coordinates", "location"])
    if not config.clean:
        localizers = _spoil(localizers, np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(3,))))
    truth = pd.DataFrame([record["truth"] for record in records])
    for name, table in (("train", _train_table(cases)), ("train_localizers", localizers), ("truth", truth)):
        with atomic_write(out / f"{name}.csv") as beside:
            table.to_csv(beside, index=False, lineterminator="\n")
    return truth


def _train_table(cases: list[Case]) -> pd.DataFrame:
    rows = [
        (case.series_uid, case.age, case.sex, case.modality, *(int(name in case.locations) for name in LOCATIONS))
        for case in cases
    ]
    table = pd.DataFrame(rows, columns=["SeriesInstanceUID", "PatientAge", "PatientSex", "Modality", *LOCATIONS])
    table[PRESENT] = table[list(LOCATIONS)].max(axis=1)
    return table


def _spoil(localizers: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Drops the localizers of a few positive series and duplicates a few rows, as in the competition."""
    series = localizers.SeriesInstanceUID.unique()
    without = rng.choice(series, round(len(series) * WITHOUT_LOCALIZERS / POSITIVES), replace=False)
    kept = localizers[~localizers.SeriesInstanceUID.isin(without)]
    twice = rng.choice(len(kept), round(len(kept) / LOCALIZERS), replace=False)
    return pd.concat([kept, kept.iloc[twice]]).sort_values("SOPInstanceUID", kind="stable")
