"""The page of all steps' scores, from what the eval scripts wrote about a few small series."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import eval_end_to_end
import eval_stage1
import eval_stage2
from aneurysm.paths import ModelPaths
from aneurysm.report.summary import Step, markdown, middle_positive, steps_table
from scripts.summary import SummaryConfig, main
from tests.end_to_end_data import BROKEN, ENCODER, make_data, train_pairs
from tests.stage1_cache import make_spots, spot


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Everything up to the last eval script."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("summary")
    series = make_data(root / "data")
    series["Aneurysm Present"] = [1, 1, 0, 0, 1, 1, 0, 1]
    series.to_csv(root / "data" / "train_2_folds.csv", index=False)
    rows = []
    for uid, fold, plane in zip(series.SeriesInstanceUID, series.fold, series.plane, strict=True):
        if uid not in BROKEN:
            about = {"x": 256.0, "y": 256.0, "location": "Basilar Tip"} if fold == 0 else {}
            rows += [spot(uid, fold, index, 3.0 * index, plane, **(about if index == 5 else {})) for index in (5, 15)]
    make_spots(rows).to_csv(root / "data" / "train_stage1_2_folds.csv", index=False)
    train_pairs(root / "data", root / "model", series)
    given = {"data_dir": root / "data", "model_dir": root / "model", "folds": 2, "device": "cpu"}
    eval_stage1.main(eval_stage1.EvalStage1Config(**given))
    eval_stage2.main(eval_stage2.EvalStage2Config(**given))
    eval_end_to_end.main(eval_end_to_end.EvalEndToEndConfig(**given, workers=0))
    return root


def test_the_page_holds_each_steps_score_and_its_figures_are_there(root, capsys):
    main(SummaryConfig(root / "data", root / "model", folds=2))
    folder = ModelPaths(root / "model", ENCODER).folder
    page = (folder / "summary.md").read_text()
    truth = pd.read_csv(root / "data" / "train_2_folds.csv").set_index("SeriesInstanceUID")["Aneurysm Present"]
    for name, csv in (("stage 2", "oof_stage2.csv"), ("end to end, from DICOM", "oof_end_to_end.csv")):
        predictions = pd.read_csv(folder / csv)
        expected = roc_auc_score(truth[predictions.SeriesInstanceUID], predictions["Aneurysm Present"])
        assert f"| {name} | 8 series | 5 | {expected:.3f} (" in page
    windows = pd.read_csv(folder / "oof_stage1.csv")
    positive = (windows.fold == 0) & (windows.slice == 5)
    expected = roc_auc_score(positive, windows["Aneurysm Present"])
    assert f"| stage 1 | {len(windows)} windows of spots | {positive.sum()} | {expected:.3f} (" in page
    assert "| maximum over slices of stage 1 | 8 series | 5 |" in page
    for name in ("roc.png", "series.png"):
        assert f"({name})" in page and cv2.imread(str(folder / name)).std() > 10
    assert str(folder / "summary.md") in capsys.readouterr().out


def test_a_run_without_answers_from_dicom_is_summarised_too(root):
    paths = ModelPaths(root / "model", ENCODER)
    kept = paths.oof_end_to_end_csv.read_bytes()
    paths.oof_end_to_end_csv.unlink()
    main(SummaryConfig(root / "data", root / "model", folds=2))
    paths.oof_end_to_end_csv.write_bytes(kept)
    assert "from DICOM" not in (paths.folder / "summary.md").read_text()


def test_answers_from_dicom_are_held_against_the_folds(root):
    paths = ModelPaths(root / "model", ENCODER)
    kept = paths.oof_end_to_end_csv.read_bytes()
    predictions = pd.read_csv(paths.oof_end_to_end_csv)
    gone = predictions[:1].assign(SeriesInstanceUID="gone")  # from train.csv since
    pd.concat([predictions, gone]).to_csv(paths.oof_end_to_end_csv, index=False)
    main(SummaryConfig(root / "data", root / "model", folds=2))
    assert "| end to end, from DICOM | 8 series | 5 |" in (paths.folder / "summary.md").read_text()
    predictions.assign(fold=1 - predictions.fold).to_csv(paths.oof_end_to_end_csv, index=False)
    with pytest.raises(ValueError, match=r"oof_end_to_end.csv: expected the folds of create_folds.py, axial in fold 0"):
        main(SummaryConfig(root / "data", root / "model", folds=2))
    paths.oof_end_to_end_csv.write_bytes(kept)


def test_a_step_that_has_not_run_is_named(root):
    (root / "other" / ENCODER / "fold-0").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"fold-<k>/stage2/last.pth, found none; has train_stage2.py run"):
        main(SummaryConfig(root / "data", root / "other", folds=2))


def step(present: list[float], truth: list[int]) -> Step:
    """Answers about series a, b, ...; the locations are never there."""
    labels, output = np.zeros((len(truth), 14), int), np.zeros((len(truth), 14))
    labels[:, -1], output[:, -1] = truth, present
    return Step("a step", "series", labels, output, np.array([chr(97 + i) for i in range(len(truth))]))


def test_the_series_that_is_drawn_is_the_one_in_the_middle_of_the_positives():
    output = step([0.9, 0.2, 0.5, 0.99, 0.4], [1, 1, 1, 0, 1])  # b 0.2, e 0.4, c 0.5, a 0.9
    assert middle_positive(output, lambda uid: True) == "c"
    assert middle_positive(output, lambda uid: uid != "c") == "e"
    assert middle_positive(output, lambda uid: uid == "d") is None


def test_a_score_that_does_not_exist_is_a_dash():
    page = markdown(steps_table([step([0.1, 0.8, 0.3], [0, 1, 0])]))
    assert page.splitlines()[-1].startswith("| a step | 3 series | 1 | 1.000 (") and page.endswith("| - |")
