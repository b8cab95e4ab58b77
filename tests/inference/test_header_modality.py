"""The modality that stage 2 is told: what a hidden series' header says is trained on, and what scores are taken by."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit

import eval_stage2
from aneurysm.config import parse_config
from aneurysm.inference.models import Pair, read_pair
from aneurysm.inference.predict import Predictor
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.phantom import series as phantom_series
from aneurysm.phantom.config import PhantomConfig
from aneurysm.phantom.dataset import make_dataset
from aneurysm.stage2.config import JitterConfig, Stage2Config
from aneurysm.stage2.dataset import SliceLocalizers, TrainingSeries, TrainingTable, augment
from aneurysm.stage2.predict import load_stage2
from aneurysm.stage2.tokens import series_tokens
from aneurysm.training.checkpoint import load_checkpoint, save_state
from eval_end_to_end import EvalEndToEndConfig, main
from tests import phantom_spheres
from tests.end_to_end_data import CPU, ENCODER
from tests.stage2_series import NUMBERS, STILL, described, make_series

CTA, MRA, T2, T1POST, MR = 1, 2, 3, 4, 5  # rows of the model's embedding; 0 is unknown
UID = "SeriesInstanceUID"


@pytest.fixture(scope="module")
def pairs(trained_root) -> list[Pair]:
    return [read_pair(ModelPaths(trained_root / "model", ENCODER), fold) for fold in (0, 1)]


def asked_with(predictor: Predictor) -> list[int]:
    """The rows of the modality embedding that the predictor's models are asked with from now on."""
    seen: list[int] = []
    for model in predictor.models:
        model.stage2.embed.modality.register_forward_pre_hook(lambda _, rows: seen.extend(rows[0].tolist()))
    return seen


def test_bare_headers_of_the_competition_say_cta_or_mr_and_never_unknown(pairs, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom_series, "draw_person", phantom_spheres.draw_person)
        patch.setattr(phantom_series, "render", phantom_spheres.render)
        truth = make_dataset(PhantomConfig(str(tmp_path), n_series=8, workers=1, size=32))
    predictor = Predictor(pairs, CPU)
    for row in truth.itertuples():
        seen = asked_with(predictor)
        assert predictor.predict_series(tmp_path / "series" / row.SeriesInstanceUID).failure == ""
        assert set(seen) == {CTA if row.modality == "CTA" else MR}
    assert {"CTA", "MRA", "MRI T2"} <= set(truth.modality)


@pytest.mark.parametrize(
    ("kind", "row"),
    [("CTA", CTA), ("CT", CTA), ("MRA", MRA), ("MRI T2", T2), ("MRI T1post", T1POST), ("MR", MR), ("unknown", 0)],
)
def test_a_ct_is_taken_for_a_cta_and_an_mr_of_no_known_kind_has_a_row_of_its_own(kind, row):
    assert series_tokens(described(0.0), "original", kind, "axial", NUMBERS)["modality"] == row


@pytest.mark.parametrize(("kind", "by_header"), [("CTA", CTA), ("MRA", MR), ("MRI T2", MR), ("MRI T1post", MR)])
def test_training_is_told_what_the_header_says_with_its_chance(kind, by_header):
    tokens, rng = series_tokens(described(0.0), "original", kind, "axial", NUMBERS), np.random.default_rng(0)
    drawn = [augment(tokens, replace(STILL, header_modality_p=0.4), rng)["modality"].item() for _ in range(600)]
    assert set(drawn) == {tokens["modality"].item(), by_header}
    if kind != "CTA":
        assert np.mean(np.equal(drawn, by_header)) == pytest.approx(0.4, abs=0.06)
    hidden = replace(STILL, header_modality_p=1.0, unknown_p=1.0)
    assert augment(tokens, hidden, rng)["modality"] == 0
    assert augment(tokens, replace(STILL, header_modality_p=0.0), rng)["modality"] == tokens["modality"]


def test_half_of_the_series_are_trained_on_by_the_header_unless_the_preset_says_otherwise():
    assert JitterConfig().header_modality_p == 0.5


def test_what_training_is_told_depends_on_epoch_sample_and_seed_alone(tmp_path):
    series = make_series(tmp_path, n_series=24, n_features=6, folds=2, encoders=("one",)).assign(series_type="MRA")
    table = TrainingTable.without_fold(series, ModelPaths(tmp_path / "model", "one"), 0, NUMBERS)
    config = Stage2Config(tokens=NUMBERS, jitter=replace(STILL, header_modality_p=0.5))

    def messages(epoch: int, samples: range, config: Stage2Config = config) -> dict[int, int]:
        training = TrainingSeries(table, config, SliceLocalizers({}, frozenset()))
        return {sample: training[(epoch, sample)]["modality"].item() for sample in samples}

    first = messages(0, range(12))
    assert set(first.values()) == {MRA, MR}
    assert messages(0, range(11, -1, -1)) == first and messages(1, range(12)) != first
    assert messages(0, range(12), replace(config, training=replace(config.training, seed=1))) != first


def test_eval_end_to_end_asks_by_the_header_unless_told_otherwise():
    assert parse_config(EvalEndToEndConfig, "", []).header_modality is True
    assert parse_config(EvalEndToEndConfig, "", ["--header_modality", "false"]).header_modality is False


def test_from_dicom_and_from_the_cache_the_same_modality_gives_the_same_answers(trained_root, tmp_path, capsys):
    """Header and table differ about one series, the MRA, whose header says MR."""
    model_dir = shutil.copytree(trained_root / "model", tmp_path / "model")
    given = {"data_dir": trained_root / "data", "model_dir": model_dir, "folds": 2, "device": "cpu"}
    for by_header in (True, False):
        eval_stage2.main(eval_stage2.EvalStage2Config(**given, header_modality=by_header))
        main(EvalEndToEndConfig(**given, workers=0, header_modality=by_header))
        output = capsys.readouterr().out
        assert "8 series against the cached way: largest difference 0.00" in output and "!!!" not in output
        assert "modality MRA" in output  # subgroups are the table's
    paths = ModelPaths(model_dir, ENCODER)
    by_header, by_table = (
        pd.read_csv(path).set_index(UID)[list(LABELS)] for path in (paths.oof_stage2_header_csv, paths.oof_stage2_csv)
    )
    assert by_header.drop("enhanced").equals(by_table.drop("enhanced"))
    assert np.abs(logit(by_header.loc["enhanced"]) - logit(by_table.loc["enhanced"])).max() > 0.01


def test_a_temperature_is_of_the_tables_modality():
    with pytest.raises(ValueError, match="expected --temperature or --header_modality, found both"):
        eval_stage2.main(eval_stage2.EvalStage2Config(header_modality=True, temperature=True))


def test_a_stage_2_of_version_1_0_takes_mr_for_unknown_as_it_was_trained(trained_root, tmp_path):
    path = ModelPaths(trained_root / "model", ENCODER).stage2(0) / "last.pth"
    saved, name = load_checkpoint(path), "embed.modality.weight"
    saved["weights"][name] = saved["weights"][name][:5]
    del saved["config"]["stage2"]["jitter"]["header_modality_p"]
    save_state(tmp_path / "last.pth", saved)
    rows = load_stage2(tmp_path / "last.pth")[0].embed.modality.weight
    assert torch.equal(rows[:5], saved["weights"][name]) and torch.equal(rows[MR], rows[0])
