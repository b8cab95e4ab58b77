"""preprocess_data.py killed in the middle: it goes on, and ends with the bytes of an undisturbed run."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dicom_writer import write_stack
from tests.preprocess_script import ROOT, digest, head_ct, run, wait_for_files, wait_for_orphans

pytestmark = pytest.mark.timeout(240)


def start(data_dir: Path) -> subprocess.Popen:
    command = [sys.executable, "preprocess_data.py", "--data_dir", str(data_dir), "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)


def test_a_run_killed_three_times_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    for i in range(30):
        write_stack(tmp_path / "series" / f"s{i:02d}", head_ct(10 + i), spacing=(4.0, 3.0, 3.0))
    undisturbed = tmp_path.with_name(f"{tmp_path.name}_undisturbed")
    shutil.copytree(tmp_path, undisturbed, copy_function=shutil.copy2)
    assert run(undisturbed).returncode == 0
    draw = random.Random(7)
    for kill in range(3):
        process = start(tmp_path)
        wait_for_files(tmp_path / "npy_sequence", 2 + 8 * kill + draw.randrange(6), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for_orphans(tmp_path)
    n_left = 30 - len(list((tmp_path / "npy_sequence").glob("*.json")))
    assert n_left > 0, "the kills came too late to test anything"
    assert run(tmp_path).returncode == 0
    assert digest(tmp_path) == digest(undisturbed)
    assert not list(tmp_path.rglob("*.part"))
