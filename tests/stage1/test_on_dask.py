"""Stage 1 on a Dask cluster: the same as without one, each process loads a model once, killed workers cost nothing."""

import os
import pickle
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import torch
from dask.distributed import Client, LocalCluster

import extract_features
import mine_hard_negatives
from aneurysm.cache.features import read_features
from aneurysm.config import parse_config
from aneurysm.paths import ModelPaths
from aneurysm.stage1 import extract, on_dask
from aneurysm.stage1.config import InputConfig, ModelConfig, Stage1Config
from aneurysm.stage1.extract import PARTS
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.on_dask import ALONE, DaskWorkers, ModelFile, predict_on_worker
from aneurysm.training.checkpoint import file_hash, save_checkpoint
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from tests.kill_workers import KillWorkers
from tests.stage1_cache import HEADS, write_data

pytestmark = pytest.mark.timeout(240)
CACHED = [uid for uid, *_ in HEADS if uid != "missing"]
CONFIG = Stage1Config(
    encoder="test_convnext", input=InputConfig(image_size=64), heads=ModelConfig(drop_rate=0),
    training=TrainingConfig(precision="fp32", workers=3),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """data/, and model/ with a net of random weights for each of two folds."""
    folder = tmp_path_factory.mktemp("dask")
    (folder / "data").mkdir()
    write_data(folder / "data")
    torch.set_num_threads(1)
    for fold in (0, 1):
        torch.manual_seed(fold)
        net = Stage1Net(CONFIG.encoder, CONFIG.heads, CONFIG.input.image_size)
        torch.nn.init.normal_(net.heatmap.aneurysm.weight, std=2.0)  # so that its maps have peaks
        about = {"stage1": asdict(CONFIG), "fold": fold}
        save_checkpoint(ModelPaths(folder / "model", CONFIG.encoder).stage1(fold), net, about, {}, 1)
    return folder


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The scheduler of two worker processes, which suspects an item when one has died."""
    few_tries = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with few_tries, LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def call(script, config_class, folder: Path, *args: str) -> None:
    start = ["--data_dir", str(folder / "data"), "--model_dir", str(folder / "model"), "--folds", "2"]
    script.main(parse_config(config_class, "", [*start, "--device", "cpu", *args]))


def process_of(model: Stage1Net, config: Stage1Config, series_uid: str) -> int:
    return os.getpid()


def loads() -> tuple[int, int]:
    return on_dask._loaded.cache_info().misses, on_dask._loaded.cache_info().hits


def test_a_worker_process_loads_a_model_once(folder, address):
    """First of all, when the processes are new."""
    uids = [f"series {i}" for i in range(30)]
    checkpoint = ModelPaths(folder / "model", CONFIG.encoder).stage1(0)
    asked = Counter(pid for _, pid in DaskWorkers(address, ALONE).predict(process_of, checkpoint, 0, uids))
    with Client(address) as client:
        found = client.run(loads).values()
    assert sum(asked.values()) == 30
    assert sorted(found) == sorted((1, n - 1) for n in asked.values()) + [(0, 0)] * (2 - len(asked))


def test_features_are_those_of_the_run_without_dask_and_each_is_written_once_though_workers_are_killed(
    folder, address, tmp_path, monkeypatch
):
    for place in ("with", "without"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "data").symlink_to(folder / "data")
        shutil.copytree(folder / "model", tmp_path / place / "model")
    written, write = Counter(), extract.write_features
    monkeypatch.setattr(extract, "write_features", lambda path, *rest: written.update([path]) or write(path, *rest))
    arguments = ["--slice_spacing_mm", "12", "--own_fold", "false", "--workers", "0", "--batch_size", "5"]
    run = partial(call, extract_features, extract_features.ExtractConfig)
    with KillWorkers(address, lambda: len(written), at=(2, 6)) as killed:
        run(tmp_path / "with", *arguments, "--dask", address)
    assert len(set(killed.pids)) == 2
    assert len(written) == 2 * len(CACHED) and set(written.values()) == {1}
    run(tmp_path / "without", *arguments)
    for fold in (0, 1):
        with_dask, without = (
            ModelPaths(tmp_path / place / "model", CONFIG.encoder).features(fold) for place in ("with", "without")
        )
        assert {path.stem for path in with_dask.iterdir()} == set(CACHED)
        for uid in CACHED:
            found, expected = (read_features(place / f"{uid}.safetensors") for place in (with_dask, without))
            assert found.views == expected.views and found.slice_spacing_mm == 12
            for part in (*PARTS, "slice", "position_mm", "depth_mm"):
                np.testing.assert_allclose(getattr(found, part), getattr(expected, part), rtol=2e-3, atol=1e-4)
    written.clear()
    run(tmp_path / "with", *arguments)
    assert not written  # what Dask has made is not made again without it


def test_hard_negatives_are_the_rows_of_the_run_without_dask_though_a_worker_is_killed(folder, address):
    tables, path = [], folder / "data" / "hard_negatives.parquet"
    mine = partial(call, mine_hard_negatives, mine_hard_negatives.MineConfig, folder, "--threshold", "0.4")
    with KillWorkers(address, lambda: 0, at=(0,)) as killed:
        mine("--dask", address)
    tables.append(pd.read_parquet(path))
    path.unlink()
    mine()
    tables.append(pd.read_parquet(path))
    assert len(killed.pids) == 1 and len(tables[0]) > 10
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)


def careless(model: Stage1Net, config: Stage1Config, series_uid: str) -> tuple[str, int]:
    """A question that kills the worker with one series, and finds another one damaged."""
    if series_uid == "s2":
        os.kill(os.getpid(), signal.SIGKILL)
    if series_uid == "s4":
        raise ValueError("s4.npy: expected 16 slices, the file is too short")
    return config.encoder, torch.get_num_threads()


def test_a_series_that_kills_its_workers_and_a_damaged_one_are_named_in_the_end_and_stop_nothing(folder, address):
    workers = DaskWorkers(address, ALONE)
    predictions = list(workers.predict(careless, ModelPaths(folder / "model", CONFIG.encoder).stage1(1), 1, CACHED))
    assert sorted(predictions) == [(uid, (CONFIG.encoder, 1)) for uid in CACHED if uid not in ("s2", "s4")]
    assert set(workers.failures) == {"s2", "s4"}
    with pytest.raises(
        ValueError, match=r"2 series have no result(.|\n)*series s2: each worker(.|\n)*was killed"
    ) as all_:
        workers.check()
    assert "s4: s4.npy: expected 16 slices" in str(all_.value)


def test_no_weights_travel_with_a_question(folder):
    checkpoint = ModelPaths(folder / "model", CONFIG.encoder).stage1(0)
    job = partial(predict_on_worker, careless, ModelFile(checkpoint, 0, file_hash(checkpoint)))
    assert len(pickle.dumps(job)) < 1000


def test_a_worker_that_sees_another_model_than_the_one_asked_has_no_answer(folder, tmp_path):
    checkpoint = ModelPaths(folder / "model", CONFIG.encoder).stage1(0)
    asked = ModelFile(tmp_path / "last.pth", 0, file_hash(checkpoint))
    assert "last.pth" in predict_on_worker(process_of, asked, "s0").reason  # none
    shutil.copy(ModelPaths(folder / "model", CONFIG.encoder).stage1(1), tmp_path / "last.pth")
    assert "last.pth: expected the file that begins the run" in predict_on_worker(process_of, asked, "s0").reason
    shutil.copy(checkpoint, tmp_path / "last.pth")
    assert predict_on_worker(process_of, asked, "s0") == os.getpid()


@pytest.mark.parametrize("world", [DistContext(0, 2, torch.device("cpu")), DistContext(0, 1, torch.device("cuda", 0))])
def test_dask_beside_torchrun_or_a_gpu_is_refused(world):
    with pytest.raises(ValueError, match="--dask tcp://a:1: expected one process and --device cpu, found"):
        DaskWorkers("tcp://a:1", world)
