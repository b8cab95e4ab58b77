"""The stand-in for the competition's server: it takes valid rows of both kinds, and nothing else."""

import socket
import sys
import time
from itertools import count
from pathlib import Path

import grpc
import numpy as np
import pandas as pd
import polars as pl
import pytest

from aneurysm.labels import LABELS

ROW = dict.fromkeys(LABELS, 0.25)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Asks a function about three series; returns submission.parquet."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "gateway")
    for name in ("a", "b", "c"):
        (tmp_path / "data" / name).mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        monkeypatch.setenv("GATEWAY_PORT", str(free.getsockname()[1]))
    for name in ("data", "share", "out"):
        monkeypatch.setenv(f"GATEWAY_{name.upper()}", str(tmp_path / name))
    (tmp_path / "share").mkdir()

    def ask(answer, empty=True, deadline_s=20.0) -> pd.DataFrame:
        from kaggle_evaluation.rsna_inference_server import RSNAInferenceServer

        def predict(series_path: str):
            assert Path(series_path).is_dir()
            try:
                return answer()
            finally:
                if empty:
                    Path(series_path).unlink() if Path(series_path).is_symlink() else Path(series_path).rmdir()
                    (tmp_path / "share" / "series").rmdir()

        monkeypatch.setenv("GATEWAY_DEADLINE_S", str(deadline_s))
        RSNAInferenceServer(predict).run_local_gateway()
        return pd.read_parquet(tmp_path / "out" / "submission.parquet")

    yield ask
    for name in [name for name in sys.modules if name.startswith("kaggle_evaluation")]:
        del sys.modules[name]


@pytest.mark.parametrize("frame", [pl.DataFrame, pd.DataFrame])
def test_frames_of_polars_and_of_pandas_make_a_submission(run, frame):
    table = run(lambda: frame([ROW]))
    assert list(table) == ["SeriesInstanceUID", *LABELS] and set(table.SeriesInstanceUID) == set("abc")
    assert (table[list(LABELS)] == 0.25).all(axis=None)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: pd.DataFrame([ROW, ROW]), "expected one row"),
        (lambda: pd.DataFrame([ROW])[list(LABELS[::-1])], "expected one row of the 14 labels"),
        (lambda: pd.DataFrame([ROW | {"SeriesInstanceUID": 1.0}]), "expected one row of the 14 labels"),
        (lambda: pd.DataFrame([ROW | {LABELS[3]: np.nan}]), "expected probabilities"),
        (lambda: pd.DataFrame([ROW | {LABELS[3]: 1.5}]), "expected probabilities"),
        (lambda: pd.DataFrame([ROW]).astype(str), "expected probabilities"),
        (lambda: [0.5] * 14, "found builtins.list"),
    ],
)
def test_what_is_no_row_of_14_probabilities_is_refused(run, answer, message):
    with pytest.raises(ValueError, match=message):
        run(answer)


def test_another_kind_of_frame_than_before_is_refused(run):
    frames = iter([pl.DataFrame, pd.DataFrame])
    with pytest.raises(ValueError, match=r"expected polars\.DataFrame, found pandas\.DataFrame"):
        run(lambda: next(frames)([ROW]))


def test_a_shared_folder_that_is_not_emptied_is_refused(run):
    with pytest.raises(ValueError, match="expected an empty folder"):
        run(lambda: pd.DataFrame([ROW]), empty=False)


def test_an_exception_ends_the_submission_and_a_late_answer_does_unless_it_is_the_first(run):
    with pytest.raises(grpc.RpcError, match="division by zero"):
        run(lambda: 1 / 0)
    calls = count()
    with pytest.raises(grpc.RpcError, match="(?i)deadline exceeded"):
        run(lambda: time.sleep(1.0) or pd.DataFrame([ROW], index=[next(calls)]), deadline_s=0.3)
    assert next(calls) >= 1  # the first had an answer after a second


def test_only_a_plain_function_named_predict_is_served(run):
    from kaggle_evaluation.rsna_inference_server import RSNAInferenceServer

    with pytest.raises(ValueError, match="expected a function named predict"):
        RSNAInferenceServer(lambda series_path: None)
