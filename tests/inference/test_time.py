"""Inference within a time budget, on several devices, and out of memory."""

from math import inf
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aneurysm.cache.config import InputConfig
from aneurysm.inference import slice_ensemble
from aneurysm.inference.models import Model
from aneurysm.inference.predict import Predictor
from aneurysm.inference.sampled import SampledSeries, read_sampled
from tests.end_to_end_data import CPU, ROUNDED


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while stage 1 is asked: 1 s a window, of the real clock's start."""

    class Clock:
        now = perf_counter()
        asked = []

    clock, look = Clock(), Model.encode

    def slow_look(self, view, images, rows, plane, batch_size):
        clock.now += len(rows)
        clock.asked.append((self, view, len(rows)))
        return look(self, view, images, rows, plane, batch_size)

    clock.asked = []
    monkeypatch.setattr(Model, "encode", slow_look)
    monkeypatch.setattr(slice_ensemble, "perf_counter", lambda: clock.now)
    return clock


def asked_within(predictor: Predictor, clock, root: Path, budget_s: float):
    """The questions (model, view, windows) that a series of 22 windows is asked, and what is said of it."""
    clock.asked.clear()
    output = predictor.ensemble.predict(sampled(predictor, root), clock.now + budget_s)
    questions = [(predictor.models.index(model), view, n) for model, view, n in clock.asked]
    return questions, output


def sampled(predictor: Predictor, root: Path) -> SampledSeries:
    return read_sampled(root / "data" / "series" / "axial", predictor.request)


def test_mirrored_views_go_first_then_folds_then_slices(root, pairs, clock):
    predictor = Predictor(pairs, CPU)
    predictor.warm_up()
    n = len(sampled(predictor, root).index)
    assert n >= 16
    everything = [(0, "original", n), (1, "original", n), (0, "mirror", n), (1, "mirror", n)]
    for budget_s, n_asked, words in (
        (inf, 4, []),
        (4 * n + 1, 4, []),
        (4 * n - 1, 3, ["1 of 2 models did not run on the mirror image"]),
        (3 * n - 1, 2, ["2 of 2 models did not run on the mirror image"]),
        (2 * n - 1, 1, ["only 1 of 2 models ran", "2 of 2 models did not run on the mirror image"]),
    ):
        questions, output = asked_within(predictor, clock, root, budget_s)
        assert questions == everything[:n_asked] and list(output.left_out) == words, budget_s
        assert sorted(output.features) == sorted({number for number, _, _ in questions})
    questions, output = asked_within(predictor, clock, root, n - 1)
    assert questions == [(0, "original", len(range(0, n, 2)))]
    assert output.left_out[0] == f"only {len(range(0, n, 2))} of {n} slices were evaluated"
    assert output.series.index.tolist() == sampled(predictor, root).index[::2].tolist()
    questions, output = asked_within(predictor, clock, root, -100)  # too late: the least that makes an answer
    assert len(questions) == 1 and 8 <= questions[0][2] < 16


def test_a_slower_device_is_noticed_on_the_way(root, pairs, clock):
    """The pace is what the latest series took, not what was measured at the start."""
    predictor = Predictor(pairs, CPU)
    predictor.warm_up()
    n = len(sampled(predictor, root).index)
    predictor.ensemble._window_s = {0: 0.1, 1: 0.1}
    questions, _ = asked_within(predictor, clock, root, 2.6 * n)  # 4 questions of 0.1 n were expected to fit
    assert len(questions) == 3  # after two, 0.6 n are left, and (0.1 + 1) / 2 of n are expected of the first
    questions, _ = asked_within(predictor, clock, root, 2.6 * n)
    assert len(questions) == 2  # by now more than 0.6 n are expected of both


def test_what_was_left_out_is_told_and_the_answer_is_that_of_the_models_that_were_asked(root, pairs, monkeypatch):
    monkeypatch.setattr(slice_ensemble, "FEWEST_WINDOWS", 1000)  # all slices
    predictor = Predictor(pairs, CPU)
    predictor.warm_up()
    hurried = predictor.predict_series(root / "data" / "series" / "sagittal", budget_s=0.0)
    assert hurried.failure == "" and hurried.left_out == (
        "only 1 of 2 models ran", "2 of 2 models did not run on the mirror image"
    )  # fmt: skip
    alone = Predictor(pairs[:1], CPU, tta=False).predict_series(root / "data" / "series" / "sagittal")
    np.testing.assert_allclose(hurried.probabilities, alone.probabilities, atol=ROUNDED)
    assert Predictor(pairs, CPU).predict_series(root / "data" / "series" / "sagittal").left_out == ()


@pytest.mark.parametrize("uid", ["axial", "sagittal"])
def test_devices_that_share_the_windows_say_what_one_says(root, pairs, uid):
    one = Predictor(pairs, CPU).predict_series(root / "data" / "series" / uid)
    shared = Predictor(pairs, [CPU, CPU, CPU])
    assert len({id(encoder["original"].model) for encoder in shared.models[0].encoders}) == 3
    shared.warm_up()
    three = shared.predict_series(root / "data" / "series" / uid)
    np.testing.assert_allclose(three.probabilities, one.probabilities, atol=1e-4)
    np.testing.assert_allclose(three.curves.probability, one.curves.probability, atol=1e-3)


def test_a_series_of_fewer_windows_than_devices_is_answered_too(root, pairs):
    predictor = Predictor(pairs[:1], [CPU] * 40)
    assert predictor.predict_series(root / "data" / "series" / "sagittal").failure == ""


def test_out_of_memory_the_batch_is_halved_until_it_fits(root, pairs, monkeypatch):
    expected = Predictor(pairs[:1], CPU).predict_series(root / "data" / "series" / "axial")
    look, sizes = Model.encode, []

    def short_of_memory(self, view, images, rows, plane, batch_size):
        sizes.append(batch_size)
        if batch_size > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return look(self, view, images, rows, plane, batch_size)

    monkeypatch.setattr(Model, "encode", short_of_memory)
    predictor = Predictor(pairs[:1], CPU, batch_size=20)
    found = predictor.predict_series(root / "data" / "series" / "axial")
    assert sizes == [20, 10, 5, 5] and predictor.ensemble.batch_size == 5
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)


def test_where_a_device_does_not_hold_all_images_they_go_there_by_batches(root, pairs, monkeypatch):
    expected = Predictor(pairs[:1], CPU).predict_series(root / "data" / "series" / "axial")
    to, refused = torch.Tensor.to, []

    def without_room(self, *args, **settings):
        if self.ndim == 3 and args == (CPU,) and not refused:
            refused.append(self.shape)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return to(self, *args, **settings)

    predictor = Predictor(pairs[:1], CPU)
    monkeypatch.setattr(torch.Tensor, "to", without_room)
    found = predictor.predict_series(root / "data" / "series" / "axial")
    assert refused and found.failure == ""
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_where_not_even_one_window_fits_the_prevalences_are_the_answer(root, pairs, monkeypatch):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Model, "encode", out_of_memory)
    predictor = Predictor(pairs[:1], CPU)
    found = predictor.predict_series(root / "data" / "series" / "axial")
    assert "OutOfMemoryError" in found.failure
    np.testing.assert_array_equal(found.probabilities, predictor.prevalence)


def test_threads_that_decode_change_nothing(root, pairs):
    one, four = (Predictor(pairs[:1], CPU, threads=threads) for threads in (1, 4))
    for uid in ("axial", "coronal", "enhanced"):
        predictions = [p.predict_series(root / "data" / "series" / uid).probabilities for p in (one, four)]
        np.testing.assert_array_equal(*predictions)


def test_the_pace_is_measured_with_windows_of_as_many_slices_as_each_model_takes():
    seen = []

    def look(view, images, rows, plane, batch_size):
        seen.append((tuple(images[0].shape), rows.shape))
        return {}

    inputs = [InputConfig(image_size=8, n_slices=3), InputConfig(image_size=16, n_slices=5)]
    models = [SimpleNamespace(config1=SimpleNamespace(input=own), views=("original",), encode=look) for own in inputs]
    slice_ensemble.SliceEnsemble(models, [CPU], batch_size=4).warm_up()
    assert set(seen) == {((1, 8, 8), (4, 3)), ((1, 16, 16), (4, 5))}
