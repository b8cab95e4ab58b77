"""fresh_features.py: portions of synthetic heads become features and tables, and stage 2 learns from them."""

import pandas as pd
import pytest

import fresh_features
import train_stage2
from aneurysm.cache.features import read_features, read_sampling
from aneurysm.config import parse_config
from aneurysm.paths import ModelPaths
from aneurysm.stage1.predict import load_stage1
from fresh_features import FreshFeaturesConfig, main
from train_stage2 import TrainStage2Config

ENCODER, N = "tf_efficientnet_lite0", 5
UID = "SeriesInstanceUID"


def config(out, **settings) -> FreshFeaturesConfig:
    given = {"n_series": N, "portion": N, "slice_spacing_mm": 40.0, "workers": 1, "device": "cpu"} | settings
    return FreshFeaturesConfig(out, **given)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two portions of five heads of 32 pixels, the second asked for afterwards."""
    out = tmp_path_factory.mktemp("fresh") / "stage2"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fresh_features, "KINDS", (("usual", 32), ("varied", 32)))
        main(config(out))
        first = {path.name: path.read_bytes() for path in (out / "portions" / "1200000").iterdir()}
        main(config(out, n_series=N + 1))
        assert first == {path.name: path.read_bytes() for path in (out / "portions" / "1200000").iterdir()}
    return out


def test_what_stays_are_features_and_tables_of_all_portions(out):
    series = pd.read_csv(out / "train_5_folds.csv", dtype={UID: str})
    assert len(series) == series[UID].nunique() == 2 * N
    assert not list(out.glob("portion-*")), "series and caches are deleted"
    features = {path.stem: path for path in ModelPaths(out / "model", ENCODER).features(None).glob("*.safetensors")}
    assert set(features) == set(series[UID][series.n_slices.notna()])
    for path in features.values():
        assert read_sampling(path) == {"views": ("original",), "slice_spacing_mm": 40.0}
        assert read_features(path).peak_features.shape[-1] == 64 + 14
    spots = pd.read_csv(out / "train_stage1_5_folds.csv", dtype={UID: str})
    assert set(spots[UID]) <= set(series[UID]) and set(spots.kind) == {"positive", "negative"}


def test_its_stage_1_is_the_one_in_the_box_as_a_model_of_all_series(out):
    model, about = load_stage1(ModelPaths(out / "model", ENCODER).stage1(None))
    assert about.input.n_slices == 5 and model.heatmap is not None


def test_other_settings_do_not_mix_and_seeds_of_evaluation_are_refused(out):
    with pytest.raises(ValueError, match=r"settings\.json: expected .*'slice_spacing_mm': 3.*give another --out"):
        main(config(out, slice_spacing_mm=3.0))
    with pytest.raises(ValueError, match="seed: expected at least 1000000, found 2"):
        config(out, seed=2)


def test_a_step_that_fails_is_named_with_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setattr(fresh_features, "KINDS", (("usual", 8),))
    with pytest.raises(ValueError, match=r"make_phantoms\.py .*: expected it to succeed, found .*size"):
        main(config(tmp_path / "out"))
    assert not (tmp_path / "out" / "portions").exists()


def test_stage_2_learns_from_them_without_folds(out, capsys):
    flags = ["--data_dir", out, "--model_dir", out / "model", "--fold", "none", "--config", "stage2/fresh",
             "--training.epochs", "1", "--training.warmup_epochs", "0", "--training.batch_size", "4",
             "--device", "cpu"]  # fmt: skip
    train_stage2.main(parse_config(TrainStage2Config, "", list(map(str, flags))))
    assert f"{2 * N} series of" in capsys.readouterr().out
    history = pd.read_csv(ModelPaths(out / "model", ENCODER).stage2(None) / "history.csv")
    assert len(history) == 1 and history.loss.notna().all()
