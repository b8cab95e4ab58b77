"""Scripts that need torch load it when they run, and not to tell their flags."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["predict", "train_stage1", "train_stage2", "extract_features"])
def test_help_needs_no_torch(name):
    run = f"runpy.run_path('{name}.py', run_name='__main__')"
    code = f"import runpy, sys; sys.argv = ['{name}.py', '--help']\ntry: {run}\n"
    code += "except SystemExit as end: assert not end.code and 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "--config" in result.stdout
