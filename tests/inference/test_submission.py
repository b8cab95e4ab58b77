"""One call of the submission at a time: against the clock, out of memory, and whatever goes wrong within it."""

import json
import threading
import time
from pathlib import Path
from threading import Event

import numpy as np
import pandas
import polars
import pytest
import torch

from aneurysm.inference import predict as predict_module
from aneurysm.inference import submission as module
from aneurysm.inference.bundle import read_bundle
from aneurysm.inference.clock import Clock
from aneurysm.inference.kaggle_settings import KaggleSettings
from aneurysm.inference.predict import Predictor
from aneurysm.inference.submission import LOG, Submission, empty
from aneurysm.labels import LABELS
from tests.end_to_end_data import ROUNDED

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(trained_root) -> Path:
    return trained_root


@pytest.fixture(scope="module")
def predictor(root) -> Predictor:
    predictor = Predictor(read_bundle(root / "bundle"), CPU)
    predictor.warm_up()
    return predictor


def made(predictor, out: Path | None, total_s: float = 1000.0, n_series: int = 2, shared=None) -> Submission:
    return Submission(KaggleSettings(out=out, shared=shared), predictor, Clock(total_s, n_series))


def log_of(out: Path) -> dict:
    """The last line of the log."""
    return json.loads((out / LOG).read_text().splitlines()[-1])


class Broken:
    """Stands for a predictor that does something else than answer."""

    prevalence = np.linspace(0, 0.26, 14)

    def __init__(self, act):
        self.act = act

    def predict_series(self, place, budget_s, given_up):
        return self.act()


def raising(error: BaseException):
    def act():
        raise error

    return act


def test_a_row_is_a_polars_frame_of_the_14_labels(root, predictor, tmp_path):
    row = made(predictor, tmp_path).predict(str(root / "data" / "series" / "axial"))
    assert isinstance(row, polars.DataFrame) and row.columns == list(LABELS)
    assert row.shape == (1, 14) and set(row.dtypes) == {polars.Float64}
    expected = predictor.predict_series(root / "data" / "series" / "axial").probabilities
    np.testing.assert_allclose(row.to_numpy()[0], expected, atol=ROUNDED)
    assert (log_of(tmp_path)["uid"], log_of(tmp_path)["budget_s"]) == ("axial", pytest.approx(500, abs=1))


def test_where_polars_cannot_be_imported_it_is_a_pandas_frame(predictor, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    row = made(predictor, tmp_path).predict(str(tmp_path / "nothing"))
    assert isinstance(row, pandas.DataFrame) and list(row) == list(LABELS) and row.shape == (1, 14)


@pytest.mark.parametrize("error", [RuntimeError("r"), SystemExit(3), MemoryError(), KeyboardInterrupt()])
def test_whatever_is_raised_the_prevalences_are_the_answer_and_the_failures_are_counted(tmp_path, error):
    submission = made(Broken(raising(error)), tmp_path)
    for number in (1, 2):
        row = submission.predict("series/1.2.3")
        np.testing.assert_allclose(row.to_numpy()[0], Broken.prevalence)
        assert (log_of(tmp_path)["failures"], log_of(tmp_path)["uid"]) == (number, "1.2.3")
        assert log_of(tmp_path)["failure"].startswith(type(error).__name__)


def test_an_answer_that_is_no_probability_is_not_given(predictor, tmp_path):
    sound = predictor.predict_series(tmp_path)
    nan = type(sound)(tmp_path, np.where(np.arange(14) == 3, np.nan, 0.5), {})
    np.testing.assert_allclose(made(Broken(lambda: nan), tmp_path).predict("a").to_numpy()[0], Broken.prevalence)
    assert "expected 14 probabilities" in log_of(tmp_path)["failure"]
    beyond = type(sound)(tmp_path, np.linspace(-0.1, 1.1, 14), {})
    row = made(Broken(lambda: beyond), tmp_path).predict("a").to_numpy()[0]
    assert row[0] == 0 and row[-1] == 1 and log_of(tmp_path)["failure"] == ""
    unknown = Broken(raising(ValueError()))
    unknown.prevalence = np.full(14, np.nan)
    assert (made(unknown, tmp_path).predict("a").to_numpy() == 0.5).all()


def test_a_series_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HANGS_S", 0.2)
    start = time.perf_counter()
    row = made(Broken(lambda: time.sleep(20)), tmp_path).predict("a")
    assert time.perf_counter() - start < 5 and log_of(tmp_path)["failure"] == "no answer within 0 s"
    np.testing.assert_allclose(row.to_numpy()[0], Broken.prevalence)


def test_a_series_that_was_given_up_does_not_ask_the_models_when_its_decoder_comes_back(
    root, predictor, tmp_path, monkeypatch
):
    read, released, back, asked = predict_module.read_sampled, Event(), Event(), []

    def hanging(place, request):
        series = read(place, request)
        if place.name == "coronal":
            released.wait(30)
            back.set()
        return series

    predict = predictor.ensemble.predict
    monkeypatch.setattr(predict_module, "read_sampled", hanging)
    monkeypatch.setattr(
        predictor.ensemble, "predict", lambda series, deadline: asked.append(series.uid) or predict(series, deadline)
    )
    monkeypatch.setattr(module, "HANGS_S", 0.5)
    before = set(threading.enumerate())
    assert made(predictor, tmp_path).predict(str(root / "data" / "series" / "coronal")).shape == (1, 14)
    assert log_of(tmp_path)["failure"].startswith("no answer within")
    (left_behind,) = set(threading.enumerate()) - before
    released.set()
    left_behind.join(30)
    assert back.is_set() and not left_behind.is_alive() and asked == []
    monkeypatch.setattr(module, "HANGS_S", 100.0)
    row = made(predictor, tmp_path).predict(str(root / "data" / "series" / "axial"))
    assert log_of(tmp_path)["failure"] == "" and len(asked) == 1
    expected = predictor.predict_series(root / "data" / "series" / "axial").probabilities
    np.testing.assert_allclose(row.to_numpy()[0], expected, atol=ROUNDED)


def test_a_device_that_is_out_of_memory_once_is_asked_again_about_fewer_windows(root, tmp_path, monkeypatch):
    predictor = Predictor(read_bundle(root / "bundle"), CPU, batch_size=16)
    expected = predictor.predict_series(root / "data" / "series" / "axial").probabilities
    forward, sizes = torch.nn.Conv2d.forward, []

    def short_of_memory(layer, images):
        if layer.in_channels == 3:  # the first of the encoder
            sizes.append(len(images))
            if len(sizes) == 1:
                raise torch.OutOfMemoryError("made up")
        return forward(layer, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", short_of_memory)
    row = made(predictor, tmp_path).predict(str(root / "data" / "series" / "axial"))
    assert log_of(tmp_path)["failure"] == "" and sizes[0] == 16 and max(sizes[1:]) == 8
    np.testing.assert_allclose(row.to_numpy()[0], expected, atol=1e-5)


def test_when_time_is_short_something_is_left_out_and_logged(root, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor.ensemble, "_window_s", {0: 0.01, 1: 50.0})  # the second model would take minutes
    row = made(predictor, tmp_path, total_s=20.0).predict(str(root / "data" / "series" / "axial"))
    assert log_of(tmp_path)["failure"] == "" and "only 1 of 2 models ran" in log_of(tmp_path)["left_out"]
    assert np.isfinite(row.to_numpy()).all()


def test_when_time_is_over_the_prevalences_are_the_answer_at_once(tmp_path):
    asked = []
    row = made(Broken(lambda: asked.append(1)), tmp_path, total_s=0.9).predict("a")  # 0.45 s for each of two
    np.testing.assert_allclose(row.to_numpy()[0], Broken.prevalence)
    assert not asked and log_of(tmp_path)["left_out"] == ["everything: the time of the submission is over"]
    assert log_of(tmp_path)["failures"] == 0


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path):
    for out in (tmp_path / "missing", None):
        assert made(Broken(raising(ValueError("x"))), out).predict("a").shape == (1, 14)


def test_the_shared_folder_is_emptied_after_the_series_was_read_and_links_are_not_followed(tmp_path):
    shared, kept = tmp_path / "shared", tmp_path / "kept"
    for folder in (shared / "series" / "1", kept):
        folder.mkdir(parents=True)
    (kept / "a.dcm").write_text("a")
    (shared / "series" / "1" / "a.dcm").symlink_to(kept / "a.dcm")
    (shared / "whole").symlink_to(kept, target_is_directory=True)
    (shared / "broken").symlink_to(tmp_path / "nowhere")
    (shared / "file").write_text("b")
    seen = []
    made(Broken(lambda: seen.append((shared / "file").exists())), None, shared=shared).predict("a")
    assert seen == [True] and shared.is_dir() and not list(shared.iterdir())
    assert (kept / "a.dcm").read_text() == "a"
    empty(tmp_path / "nowhere")  # as long as nothing was shared, there is no such folder


def test_nothing_is_emptied_where_the_settings_name_no_folder(tmp_path, monkeypatch):
    emptied = []
    monkeypatch.setattr(module, "empty", emptied.append)
    made(Broken(raising(ValueError())), tmp_path, shared=None).predict("a")
    assert emptied == []
    made(Broken(raising(ValueError())), tmp_path, shared=tmp_path / "s").predict("a")
    assert emptied == [tmp_path / "s"]
