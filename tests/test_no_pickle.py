"""Nothing that a file brings is run: no call that unpickles, but the restricted one. Ruff's S rules know the others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layers import ROOT, modules

RESTRICTED = "aneurysm/folds/index_pickle.py"
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"}  # modules
READERS = {"read_pickle", "jit.load", "joblib.load", "hub.load", "package.PackageImporter", "export.load"}
ERRORS = {"UnpicklingError", "PicklingError"}  # to be caught: they run nothing
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False), "numpy.load": ("allow_pickle", False)}


def dangers(source: str) -> Iterator[str]:
    """Imports of modules that unpickle, and calls that do or may."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} <= ERRORS:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            yield from (name for name in names if name.split(".")[0] in UNPICKLING)
            if isinstance(node, ast.ImportFrom):
                calls = {f"{node.module}.{alias.name}" for alias in node.names}
                yield from sorted(calls & {*SAFE, "joblib.load", "pandas.read_pickle", "torch.jit.load"})
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if any(name.endswith(f".{reader}") or name == reader for reader in READERS):
                yield name
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if name in SAFE:
                flag, safe = SAFE[name]
                value = given.get(flag, ast.Constant(name != "torch.load" and safe))
                if None in given or not (isinstance(value, ast.Constant) and value.value is safe):
                    yield name


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_that_a_script_reads_can_run_code(path: Path):
    found = list(dangers(path.read_text()))
    assert found == (["pickle"] if str(path.relative_to(ROOT)) == RESTRICTED else [])


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "from pickle import UnpicklingError, loads",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import torch; torch.load(path, **options)",
        "from torch import load",
        "import torch; torch.jit.load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy as np; np.load(path, allow_pickle=maybe)",
        "import pandas as pd; pd.read_pickle(path)",
        "import joblib; joblib.load(path)",
        "from joblib import load",
    ],
)
def test_what_unpickles_is_found(line):
    assert len(list(dangers(line))) == 1


def test_what_does_not_is_passed_over():
    assert list(dangers("torch.load(path, weights_only=True); np.load(path); np.load(path, allow_pickle=False)")) == []
    assert list(dangers("from pickle import UnpicklingError")) == []
    assert list(dangers("json.load(file); model.load(path); joblib.Parallel(2)")) == []
