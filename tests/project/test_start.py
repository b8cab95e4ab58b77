"""Scripts load large libraries when they run, and not to tell their flags."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py") if path.stem != "kaggle_inference")  # which takes no flags
SLOW = {"torch", "pandas", "scipy", "sklearn", "matplotlib"}


@pytest.mark.parametrize("name", [*SCRIPTS, *(f"volume3d.{step}" for step in ("train", "eval", "predict", "pretrain"))])
def test_help_waits_for_no_large_library(name):
    run = f"runpy.run_module('{name}', run_name='__main__', alter_sys=True)"
    code = f"import runpy, sys; sys.argv = ['{name}', '--help']\ntry: {run}\n"
    code += (
        f"except SystemExit as end: assert not end.code and not set(sys.modules) & {SLOW}, set(sys.modules) & {SLOW}"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "--config" in result.stdout
