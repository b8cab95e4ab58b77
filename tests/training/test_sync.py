"""Copies of a run on S3: whole and in time, through an outage, and good for going on elsewhere."""

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pandas as pd
import pytest
import torch

from aneurysm.training import sync
from aneurysm.training.checkpoint import load_checkpoint
from aneurysm.training.distributed import DistContext
from aneurysm.training.sync import RunCopies, copy_up
from tests.s3_server import S3Server
from tests.synced_training import (
    ALONE,
    Killed,
    assert_equal_weights,
    epoch_there,
    folder_of,
    kill_after,
    train,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("quick_pictures")

FILES = ["best.pth", "history.csv", "history.png", "last.pth", "resume.pth", "sync.json"]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch:
        server = S3Server("bucket")
        for name, value in server.environment.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.start()
        yield server
        server.stop()
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def url(server, tmp_path, monkeypatch) -> str:
    monkeypatch.setattr(sync, "PAUSE_S", 0.01)
    return f"s3://{server.bucket}/{tmp_path.name}"


@contextmanager
def nobody_listening(monkeypatch) -> Iterator[None]:
    """The address of the server is one that has none."""
    forget = fsspec.get_filesystem_class("s3").clear_instance_cache
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        forget()
        yield
    forget()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A run without copies."""
    machine = tmp_path_factory.mktemp("undisturbed")
    assert train(machine, url="") == 6
    return machine


def test_after_a_run_its_files_lie_below_the_url_as_they_lie_below_the_model_folder(server, url, tmp_path, undisturbed):
    train(tmp_path, url)
    root = f"{url.removeprefix('s3://')}/encoder/fold-0"
    assert server.paths(url.removeprefix("s3://")) == [f"{root}/{name}" for name in FILES]
    for name in FILES[:-1]:
        assert server.read(f"{root}/{name}") == (folder_of(tmp_path) / name).read_bytes()
    assert json.loads(server.read(f"{root}/sync.json"))["epoch"] == 6
    assert sorted(path.name for path in folder_of(tmp_path).iterdir()) == FILES[:-1], "nothing else is left here"
    assert_equal_weights(undisturbed, tmp_path)


def test_training_goes_on_through_an_outage_which_is_said_and_made_up_for(server, url, tmp_path, capsys, undisturbed):
    output = []

    def at(epoch: int) -> None:
        output.extend(capsys.readouterr().out.splitlines())
        if epoch == 2:
            wait_for(lambda: epoch_there(url) == 1)
            server.stop()
        elif epoch == 4:  # the copies after epochs 2 and 3 found no server
            server.start()
        elif epoch == 5:
            wait_for(lambda: epoch_there(url) == 4)

    try:
        train(tmp_path, url, at=at)
    finally:
        if server.is_down:
            server.start()
    output.extend(capsys.readouterr().out.splitlines())
    lost = [line for line in output if "cannot be copied" in line]
    assert (
        lost and lost[0].startswith("sync: epoch 2: ") and f"resume.pth, sync.json cannot be copied to {url}" in lost[0]
    )
    assert len(lost) <= 2 and all("EndpointConnectionError" in line for line in lost)  # one line each time
    assert [line for line in output if "again" in line] == [f"sync: epoch 4: {url}/encoder/fold-0 has all files again"]
    assert epoch_there(url) == 6 and not any("NOT" in line for line in output)
    assert_equal_weights(undisturbed, tmp_path)


def test_what_could_not_be_copied_is_named_at_the_end_and_copied_by_a_later_call(
    server, url, tmp_path, monkeypatch, capsys
):
    with nobody_listening(monkeypatch):
        assert train(tmp_path, url) == 6
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"sync: NOT in {url}/encoder/fold-0: {', '.join(FILES)}; {folder_of(tmp_path)} has them"
        assert train(tmp_path, url, resume=True) == 0, "with the files here, nobody else is needed"
        assert "does not answer (EndpointConnectionError" in capsys.readouterr().out
        with pytest.raises(ValueError, match="expected a run or none, found EndpointConnectionError"):
            train(tmp_path / "new", url, resume=True)
    assert train(tmp_path, url, resume=True) == 0 and epoch_there(url) == 6


def test_a_new_machine_fetches_the_run_and_ends_with_the_weights_of_an_undisturbed_one(
    server, url, tmp_path, capsys, undisturbed
):
    with pytest.raises(Killed):
        train(tmp_path / "old", url, at=kill_after(3, url))
    assert train(tmp_path / "new", url, resume=True) == 3
    assert f"sync: epoch 3 fetched from {url}/encoder/fold-0\n" in capsys.readouterr().out
    assert_equal_weights(undisturbed, tmp_path / "new")
    histories = [pd.read_csv(folder_of(machine) / "history.csv") for machine in (undisturbed, tmp_path / "new")]
    pd.testing.assert_frame_equal(*(history.drop(columns=["samples_per_s", "wait_share"]) for history in histories))
    assert train(tmp_path / "third", url, resume=True) == 0, "the run has ended: all is fetched, nothing trained"
    assert_equal_weights(undisturbed, tmp_path / "third")


def test_older_files_there_leave_newer_ones_here_alone_and_are_replaced(server, url, tmp_path, undisturbed):
    with pytest.raises(Killed):
        train(tmp_path, url, at=kill_after(2, url))
    with pytest.raises(Killed):
        train(tmp_path, url="", resume=True, at=kill_after(2, ""))
    before = pd.read_csv(folder_of(tmp_path) / "history.csv")
    assert len(before) == 4 and epoch_there(url) == 2
    assert train(tmp_path, url, resume=True) == 2
    pd.testing.assert_frame_equal(pd.read_csv(folder_of(tmp_path) / "history.csv")[:4], before)
    assert epoch_there(url) == 6
    assert_equal_weights(undisturbed, tmp_path)


def test_newer_files_there_replace_older_ones_here(server, url, tmp_path, undisturbed):
    with pytest.raises(Killed):
        train(tmp_path / "old", url, at=kill_after(2, url))
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    assert train(tmp_path / "old", url, resume=True) == 4
    assert train(tmp_path / "new", url, resume=True) == 0
    assert_equal_weights(undisturbed, tmp_path / "new")


def test_another_run_there_is_neither_taken_for_this_one_nor_replaced_by_it(url, tmp_path):
    train(tmp_path / "other", url, seed=1)
    with pytest.raises(Killed):
        train(tmp_path / "own", url="", at=kill_after(2, ""))
    with pytest.raises(ValueError, match="fold-0: expected the run of .*own.*, found another"):
        train(tmp_path / "own", url, resume=True)
    assert train(tmp_path / "new", url, resume=True, seed=1) == 0
    assert_equal_weights(tmp_path / "other", tmp_path / "new")
    assert len(pd.read_csv(folder_of(tmp_path / "own") / "history.csv")) == 2


def test_training_does_not_wait_for_a_copy(tmp_path, monkeypatch):
    trained, waited = threading.Event(), []
    store = fsspec.get_filesystem_class("memory")
    put_file = store.put_file

    def slow(self, *args, **kwargs):
        waited.append(trained.wait(20))
        return put_file(self, *args, **kwargs)

    monkeypatch.setattr(store, "put_file", slow)
    url = f"memory://{tmp_path.name}"
    train(tmp_path, url, at=lambda epoch: trained.set() if epoch == 6 else None)
    assert all(waited) and epoch_there(url) == 6


def test_what_is_copied_is_of_one_epoch_even_where_files_are_written_meanwhile(tmp_path, monkeypatch):
    third_epoch, states = threading.Event(), []
    store = fsspec.get_filesystem_class("memory")
    put_file, pipe_file = store.put_file, store.pipe_file

    def slow(self, *args, **kwargs):
        third_epoch.wait(20)
        return put_file(self, *args, **kwargs)

    def look(self, path, value, *args, **kwargs):
        """When sync.json is written, all else is there."""
        pipe_file(self, path, value, *args, **kwargs)
        for name in ("last.pth", "resume.pth"):
            self.get_file(path.replace("sync.json", name), str(tmp_path / name))
        reached = load_checkpoint(tmp_path / "resume.pth")["run"]["epoch"]
        states.append((json.loads(value)["epoch"], load_checkpoint(tmp_path / "last.pth")["epoch"], reached))

    monkeypatch.setattr(store, "put_file", slow)
    monkeypatch.setattr(store, "pipe_file", look)
    train(tmp_path, f"memory://{tmp_path.name}", at=lambda epoch: third_epoch.set() if epoch == 3 else None)
    assert states[0] == (1, 1, 1) and states[-1] == (6, 6, 6) and all(len(set(state)) == 1 for state in states)


def test_only_the_main_process_copies(tmp_path):
    copies = RunCopies(str(tmp_path / "there"), tmp_path, tmp_path, DistContext(1, 2, torch.device("cpu")))
    copies.changed([{"epoch": 1}], 4)
    copies.close()
    assert not list(tmp_path.iterdir())


def test_a_table_is_copied_to_its_place_below_the_url(tmp_path):
    table = tmp_path / "model" / "encoder" / "oof_stage1.csv"
    table.parent.mkdir(parents=True)
    table.write_text("fold,p\n0,0.5\n")
    copy_up([table], str(tmp_path / "there"), tmp_path / "model")
    assert (tmp_path / "there" / "encoder" / "oof_stage1.csv").read_text() == "fold,p\n0,0.5\n"
    copy_up([table], "", tmp_path / "model")


def test_a_table_that_cannot_be_copied_is_named_and_stops_nothing(server, url, tmp_path, capsys):
    (tmp_path / "oof_stage1.csv").write_text("fold\n")
    copy_up([tmp_path / "oof_stage1.csv"], "s3://no-such-bucket/prefix", tmp_path)
    output = capsys.readouterr().out.splitlines()
    assert len(output) == sync.TRIES + 1 and "bucket does not exist" in output[0]
    assert output[-1] == f"sync: NOT in s3://no-such-bucket/prefix: {tmp_path / 'oof_stage1.csv'}"


def test_a_missing_package_is_told_by_the_extra_that_brings_it(tmp_path, monkeypatch):
    known = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(known, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match=r"s3://bucket/prefix/fold-0: .* pip install -e \.\[s3\]"):
        RunCopies("s3://bucket/prefix", tmp_path / "fold-0", tmp_path, ALONE)
