"""eval_stage1.py and mine_hard_negatives.py from models to tables, on a few small heads, and a second round."""

import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import eval_stage1
import mine_hard_negatives
import train_stage1
from aneurysm.labels import LABELS
from aneurysm.paths import ModelPaths
from aneurysm.stage1.training import HeldOut
from tests.stage1_cache import HEADS, N_SLICES, NEGATIVE_SLICES, SLICE_MM
from tests.stage1_scripts import ENCODER, call

pytestmark = pytest.mark.usefixtures("quick_pictures")
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(trained_stage1: Path, tmp_path_factory) -> Path:
    """A copy, since the scripts write into it."""
    return shutil.copytree(trained_stage1, tmp_path_factory.mktemp("asked") / "stage1")


@pytest.fixture(scope="module")
def evaluated(folder) -> tuple[str, pd.DataFrame]:
    """What eval_stage1.py --series prints, and the table that it writes."""
    with redirect_stdout(StringIO()) as output:
        call(eval_stage1, folder, folder / "model", "--series", "--sync", str(folder / "copies"))
    return output.getvalue(), pd.read_csv(ModelPaths(folder / "model", ENCODER).oof_stage1_csv)


def test_copies_lie_as_the_files_themselves_do(folder, evaluated):
    own, copies = (ModelPaths(folder / name, ENCODER) for name in ("model", "copies"))
    for file in (own.stage1(0), own.stage1(1), own.oof_stage1_csv):
        assert (copies.root / file.relative_to(own.root)).read_bytes() == file.read_bytes()


FOLD_OF = {uid: fold for uid, fold, *_ in HEADS}
LOCALIZED = {uid: index for uid, _, _, _, location, index, *_ in HEADS if location}


def test_evaluation_tells_windows_and_series_and_keeps_what_was_said_of_each_window(evaluated):
    output, table = evaluated
    for words in ("windows of spots, fold 0, 1\n20 cases", "Weighted score", "modality MRI T2", "plane sagittal",
                  "peak of the location's heatmap", "maximum over the slices of a series, fold 0, 1; 1 series not in",
                  "7 cases", "FROC: peaks of the map of all aneurysms within 5 mm", "oof_stage1.csv"):  # fmt: skip
        assert words in output, words
    assert (table.fold == table.SeriesInstanceUID.map(FOLD_OF)).all()
    expected = {(uid, i) for uid, slices in NEGATIVE_SLICES.items() for i in slices} | set(LOCALIZED.items())
    assert set(zip(table.SeriesInstanceUID, table.slice, strict=True)) == expected and len(table) == len(expected)
    assert table[list(LABELS)].to_numpy().min() > 0 and table[list(LABELS)].to_numpy().max() < 1


def test_one_fold_asked_again_leaves_what_was_said_about_the_other(folder, evaluated, tmp_path):
    model_dir = shutil.copytree(folder / "model", tmp_path / "model")
    path = ModelPaths(model_dir, ENCODER).oof_stage1_csv
    whole = path.read_bytes()
    changed = pd.read_csv(path)
    changed[list(LABELS)] = 0.5
    changed.to_csv(path, index=False)
    call(eval_stage1, folder, model_dir, "--fold", "1")
    pd.testing.assert_frame_equal(
        pd.read_csv(path), evaluated[1].where(changed.fold == 1, changed), check_dtype=False, rtol=1e-6
    )
    call(eval_stage1, folder, model_dir, "--fold", "0")
    assert path.read_bytes() == whole


@pytest.fixture(scope="module")
def mined(folder) -> pd.DataFrame:
    """Every slice that may be one: threshold 0, safe_mm 20, and s2 barred by a localizer that has no place."""
    errors = folder / "data" / "localizer_errors.csv"
    pd.DataFrame({"SeriesInstanceUID": ["s2"], "error": ["no image"]}).to_csv(errors, index=False)
    call(mine_hard_negatives, folder, folder / "model", "--threshold", "0")
    return pd.read_parquet(folder / "data" / "hard_negatives.parquet")


def test_hard_negatives_are_slices_far_from_any_localizer_by_the_model_that_has_not_seen_them(mined, evaluated):
    expected = {
        (uid, i)
        for uid in FOLD_OF.keys() - {"s2", "missing"}
        for i in range(N_SLICES)
        if uid not in LOCALIZED or abs(i - LOCALIZED[uid]) * SLICE_MM >= 20
    }
    assert len(expected) == 6 + 6 + 16 + 5 + 5  # s0, s1, s3, s4 and s5: slices 7 or more from the localizer's
    assert set(zip(mined.SeriesInstanceUID, mined.slice, strict=True)) == expected and len(mined) == len(expected)
    assert (mined.fold == mined.SeriesInstanceUID.map(FOLD_OF)).all()
    # A slice that is a spot too has the probability that its fold's model gave it in the evaluation.
    both = mined.merge(evaluated[1], on=["SeriesInstanceUID", "slice"])
    assert len(both) == 12  # all negative spots but those of s2
    np.testing.assert_allclose(both.probability, both["Aneurysm Present"], atol=1e-5)


def test_fewer_slices_are_asked_about_and_a_threshold_leaves_out_the_less_probable(folder, mined, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "data")
    threshold = float(mined.probability.median())
    call(mine_hard_negatives, tmp_path, folder / "model", "--threshold", str(threshold), "--slice_spacing_mm", "12")
    found = pd.read_parquet(tmp_path / "data" / "hard_negatives.parquet")
    sampled = mined[mined.slice.isin([0, 4, 8, 12, 15])]  # at 0, 12, 24, 36 mm, and the last for 48 mm
    expected = sampled[sampled.probability >= threshold]
    assert found[["SeriesInstanceUID", "slice"]].to_numpy().tolist() == (
        expected[["SeriesInstanceUID", "slice"]].to_numpy().tolist()
    )
    assert 0 < len(expected) < len(sampled)


def test_a_second_round_trains_with_hard_negatives_and_its_model_says_later_what_it_said_then(
    folder, mined, tmp_path, monkeypatch, capsys
):
    messages, scores = [], HeldOut.scores
    monkeypatch.setattr(
        HeldOut, "scores", lambda self, predictions: messages.append(predictions) or scores(self, predictions)
    )
    call(train_stage1, folder, tmp_path, "--fold", "0", "--training.epochs", "1")
    assert "13 windows an epoch, 3 series with hard negatives" in capsys.readouterr().out  # s1, s3 and s5
    call(eval_stage1, folder, tmp_path, "--fold", "0")
    table = pd.read_csv(ModelPaths(tmp_path, ENCODER).oof_stage1_csv)
    np.testing.assert_allclose(table[list(LABELS)], messages[-1].probability, atol=1e-5)  # float32, other batches
    assert set(table.fold) == {0}


@pytest.mark.parametrize("script", [eval_stage1, mine_hard_negatives])
def test_a_model_is_not_asked_about_a_fold_that_it_has_seen(folder, tmp_path, script):
    shutil.copytree(ModelPaths(folder / "model", ENCODER).fold(0), ModelPaths(tmp_path, ENCODER).fold(1))
    with pytest.raises(
        ValueError, match="fold-1/last.pth: expected a model that has not seen fold 1, found one that has not seen 0"
    ):
        call(script, folder, tmp_path)
