"""The models that come with the repository: what they are, and that predict.py answers with nothing trained."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aneurysm.inference.bundle import bundle_identity, read_bundle, read_second
from aneurysm.labels import LABELS
from aneurysm.package import bundle_folder, pretrained_folder
from aneurysm.phantom.config import FIRST_SEED, PhantomConfig
from aneurysm.phantom.dataset import make_dataset
from predict import PredictConfig, main

MOST_BYTES = 12_000_000
pytestmark = pytest.mark.usefixtures("quick_pictures")


def test_it_is_small_and_says_what_it_has_seen():
    folder = bundle_folder()
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES
    note = bundle_identity(folder)["note"]
    assert "synthetic heads alone" in note and "not a medical device" in note


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "volume3d"])
def test_its_weights_are_the_pretrained_ones_to_the_bit(name):
    (pair,), second = read_bundle(bundle_folder()), read_second(bundle_folder())
    packed = pair.stage1 if name == "tf_efficientnet_lite0" else second.trained[0]
    pretrained = load_file(pretrained_folder() / f"{name}.safetensors")
    assert set(packed.weights) == set(pretrained)
    assert all(torch.equal(packed.weights[key].to(tensor.dtype), tensor) for key, tensor in pretrained.items())


def test_nothing_that_it_has_seen_is_of_a_seed_for_evaluation():
    for name in ("tf_efficientnet_lite0", "volume3d"):
        seeds = json.loads((pretrained_folder() / f"{name}.json").read_text())["phantom_seed"]
        assert min(seeds) >= FIRST_SEED


def test_predict_answers_with_nothing_trained(tmp_path, capsys):
    make_dataset(PhantomConfig(str(tmp_path / "scans"), n_series=1, seed=7, size=64, clean=True, workers=1))
    assert main(PredictConfig((tmp_path / "scans" / "series",), out=tmp_path / "report", device="cpu", workers=0)) == 0
    note = bundle_identity(bundle_folder())["note"]
    assert f"note: {note}" in capsys.readouterr().out
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "report").glob("*.json")]
    assert np.isfinite([record["probabilities"][label] for label in LABELS]).all() and record["bundle"]["note"] == note
    for name in ("index.html", f"{record['series_uid']}.html"):
        assert note in (tmp_path / "report" / name).read_text()
