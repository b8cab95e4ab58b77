"""A small stand-in for the hidden test set: series of every kind, sound and damaged, and models that answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from aneurysm.inference.bundle import write_bundle
from aneurysm.inference.models import read_pair
from aneurysm.paths import ModelPaths
from aneurysm.phantom import series
from aneurysm.phantom.config import PhantomConfig
from aneurysm.phantom.dataset import make_dataset
from tests import phantom_spheres
from tests.dicom_writer import write_stack
from tests.end_to_end_data import ENCODER, head, make_data, train_pairs

UNREADABLE = ("broken", "empty", "garbage", "truncated")
SPACING = (3.0, 3.0, 3.0)


def make_bundle(root: Path) -> Path:
    """<root>/bundle, of two folds."""
    train_pairs(root / "data", root / "model", make_data(root / "data"))
    write_bundle(root / "bundle", (read_pair(ModelPaths(root / "model", ENCODER), fold) for fold in range(2)))
    return root / "bundle"


def make_hidden_series(root: Path) -> Path:
    """<root>/hidden/: six phantoms with the competition's quirks, five series of make_data(), and five odd ones."""
    hidden = root / "hidden"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "draw_person", phantom_spheres.draw_person)
        patch.setattr(series, "render", phantom_spheres.render)
        make_dataset(PhantomConfig(str(root / "phantoms"), n_series=6, workers=1, size=32))
    shutil.copytree(root / "phantoms" / "series", hidden)
    for name in ("axial", "enhanced", "hole", "broken", "empty"):
        shutil.copytree(root / "data" / "series" / name, hidden / name)
    write_stack(hidden / "one_slice", head(1, 7))
    twice = np.concatenate([head(20, 8), head(20, 9)])  # two points in time
    write_stack(hidden / "four_d", twice, each=lambda i: {"ImagePositionPatient": [0, 0, 3 * (i % 20)]})
    write_stack(hidden / "truncated", head(10, 10), spacing=SPACING)
    for file in (hidden / "truncated").iterdir():
        file.write_bytes(file.read_bytes()[:300])
    (hidden / "garbage").mkdir()
    for name, content in {"a.dcm": b"", "b.dcm": bytes(128) + b"DICM", "c.dcm": b"\xff" * 5000, "d.txt": b"x"}.items():
        (hidden / "garbage" / name).write_bytes(content)
    return hidden
