"""One run at a time: a second one is turned away and told by whom; a killed one holds nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import make_phantoms
from aneurysm.lock import locked
from aneurysm.phantom.config import PhantomConfig
from tests.cache.test_storage import write_data
from tests.preprocess_script import ROOT, run

HOLD = (
    "import sys, time; from pathlib import Path; from aneurysm.lock import locked\n"
    "with locked(Path(sys.argv[1]), 'preprocess_data'): print('held', flush=True); time.sleep(100)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path for preprocess_data."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_told_folder_process_host_and_time(tmp_path, holder):
    started = (tmp_path / ".preprocess_data.lock").stat().st_mtime
    with pytest.raises(ValueError, match="expected no other run of preprocess_data") as refused, holding(tmp_path):
        pass
    output = str(refused.value)
    assert output.startswith(f"{tmp_path}: ") and f"process {holder.pid} on {socket.gethostname()}, since 20" in output
    assert (tmp_path / ".preprocess_data.lock").stat().st_mtime == started  # looked at, not written to
    with locked(tmp_path, "create_folds"), locked(tmp_path / "other", "preprocess_data"):
        pass  # another script, or the same one in another folder


def holding(folder: Path):
    return locked(folder, "preprocess_data")


def test_a_killed_run_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    path = tmp_path / ".preprocess_data.lock"
    assert json.loads(path.read_text())["process"] == holder.pid
    with holding(tmp_path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert path.read_bytes() == b""
    with holding(tmp_path):
        pass


def test_a_lock_is_let_go_where_the_block_fails(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError, match="inside"), holding(tmp_path):
            raise RuntimeError("inside")


def test_the_script_stops_at_once_where_another_run_is_at_work(tmp_path, holder):
    write_data(tmp_path)
    result = run(tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith(f"error: {tmp_path}: expected no other run") and str(holder.pid) in result.stderr
    assert not (tmp_path / "npy_sequence").exists()


def test_two_runs_do_not_make_phantoms_in_one_folder(tmp_path):
    with locked(tmp_path, "make_phantoms"), pytest.raises(ValueError, match="expected no other run of make_phantoms"):
        make_phantoms.main(PhantomConfig(out=str(tmp_path), n_series=1, workers=1))
    assert not (tmp_path / "series").exists()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_where_the_file_system_has_no_locks_it_is_said_and_the_work_goes_on(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="no lock to be had"), holding(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("error")
        done = True
    assert done
