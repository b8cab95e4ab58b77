"""Models of two folds, for the tests that ask them."""

from pathlib import Path

import pytest

from aneurysm.inference.models import Pair, read_pair
from aneurysm.paths import ModelPaths
from tests.end_to_end_data import ENCODER


@pytest.fixture(scope="module")
def root(trained_root) -> Path:
    """data/ and model/ with pairs of two folds."""
    return trained_root


@pytest.fixture(scope="module")
def pairs(root) -> list[Pair]:
    return [read_pair(ModelPaths(root / "model", ENCODER), fold) for fold in (0, 1)]
