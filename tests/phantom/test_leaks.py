"""A label must follow from the picture alone: nothing about the files may tell it.

That the picture away from the aneurysm tells nothing either is tested in test_phantom_pictures.py, and
measured on whole data sets by benchmarks/phantom_leaks.py.
"""

import numpy as np
import pandas as pd
import pytest

from aneurysm.phantom.leaks import MODELS, leak_auc
from aneurysm.phantom.plan import make_plan
from aneurysm.phantom.series import set_up


@pytest.fixture(scope="module")
def settings() -> tuple[pd.DataFrame, np.ndarray]:
    """What is decided of each of 800 series before its picture, quirks and all, and its label."""
    plan = make_plan(800, seed=2, clean=False, balanced=True)
    rows = []
    for case in plan:
        quirks, acquisition, _ = set_up(case, 2, 256, False)
        shape = dict(zip(("slices", "rows", "columns"), acquisition.grid.shape, strict=True))
        matrix = dict(enumerate(acquisition.grid.matrix.ravel()))
        centre = dict(zip("xyz", acquisition.grid.origin, strict=True))
        rows.append(
            {"modality": case.modality, "plane": case.plane, "age": case.age, "sex": case.sex, "masked": case.masked}
            | {f"step_{k}": v for k, v in matrix.items()} | vars(quirks) | shape | centre
        )  # fmt: skip
    return pd.DataFrame(rows), np.array([bool(case.locations) for case in plan], int)


@pytest.mark.parametrize("model", MODELS)
def test_planes_quirks_poses_and_matrices_do_not_tell_who_has_an_aneurysm(settings, model):
    features, label = settings
    assert 0.4 < leak_auc(features, label, model) < 0.56


@pytest.mark.parametrize("model", MODELS)
def test_the_same_measurement_finds_a_leak_where_there_is_one(settings, model):
    features, label = settings
    leaking = features.assign(slices=features.slices * (1 + label))
    assert leak_auc(leaking, label, model) > 0.9
