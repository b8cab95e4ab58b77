"""The training loop: it learns, it can be killed, it does the same with two processes as with one."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from aneurysm.training import engine, precision
from aneurysm.training.checkpoint import load_checkpoint, save_state
from aneurysm.training.config import TrainingConfig
from aneurysm.training.data import EpochBatches
from aneurysm.training.distributed import DistContext
from aneurysm.training.precision import inference_precision, native_format, training_precision
from aneurysm.training.state import ema_update
from tests.small_training import Points, loss, make_model, train

ROOT = Path(__file__).parents[2]
ALONE = DistContext(0, 1, torch.device("cpu"))
CONFIG = TrainingConfig(epochs=6, batch_size=16, lr=0.02, ema_decay=0.9, workers=0, precision="fp32")


def script(folder: Path, *args: str, processes: int = 1) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return [sys.executable, *launcher, "tests/small_training.py", str(folder), *args]


def run(folder: Path, *args: str, processes: int = 1) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = script(folder, *args, processes=processes)
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]


def weights(folder: Path, name: str = "last.pth") -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / name)["weights"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return folder


def test_the_held_out_score_rises_and_the_history_tells_it(tmp_path, native_format):
    scores = train(tmp_path, replace(CONFIG, epochs=30, precision="auto"), ALONE)
    history = pd.read_csv(tmp_path / "history.csv")
    assert history.epoch.tolist() == list(range(1, 31)) and history.score.iloc[-1] == scores["score"]
    assert scores["score"] > 0.8 > history.score[0] and history.loss.iloc[-1] < 0.7 * history.loss[0]
    assert (tmp_path / "history.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_run_killed_and_resumed_ends_with_the_weights_of_an_undisturbed_one(tmp_path, undisturbed):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(script(tmp_path, "--pause", "0.5"), cwd=ROOT, env=environment)
    while process.poll() is None and not (tmp_path / "resume.pth").exists():
        time.sleep(0.01)
    time.sleep(0.6)  # into a later epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = load_checkpoint(tmp_path / "resume.pth")["run"]["epoch"]
    assert 1 <= reached < 6, "the kill came too late to test anything"
    run(tmp_path, "--resume")
    expected, found = weights(undisturbed), weights(tmp_path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    messages = [pd.read_csv(folder / "history.csv")[["epoch", "loss", "score"]] for folder in (undisturbed, tmp_path)]
    pd.testing.assert_frame_equal(*messages)


@pytest.mark.slow
def test_two_processes_train_and_evaluate_like_one(tmp_path, undisturbed):
    run(tmp_path, processes=2)
    one, two = (pd.read_csv(folder / "history.csv") for folder in (undisturbed, tmp_path))
    assert np.abs(one.loss - two.loss).max() < 1e-4 and np.abs(one.score - two.score).max() < 1e-4
    expected, found = weights(undisturbed), weights(tmp_path)
    assert all(torch.allclose(expected[name], found[name], atol=1e-4) for name in expected)


def test_the_learning_rate_rises_to_its_height_in_the_warm_up_and_ends_at_nothing(undisturbed):
    rates = pd.read_csv(undisturbed / "history.csv").lr
    assert rates[0] == pytest.approx(0.02) and (rates.diff()[1:] < 0).all() and rates[5] < 0.02 * 0.01


def test_accumulated_parts_train_like_whole_batches(tmp_path):
    for parts in (1, 4):
        train(tmp_path / str(parts), replace(CONFIG, accumulate=parts), ALONE)
    whole, parts = weights(tmp_path / "1"), weights(tmp_path / "4")
    assert all(torch.allclose(whole[name], parts[name], atol=1e-4) for name in whole)


def test_a_step_holds_the_same_samples_for_any_number_of_processes():
    def steps(size: int, accumulate: int) -> list[set]:
        parts = [
            list(EpochBatches(50, 12, accumulate, DistContext(r, size, torch.device("cpu")), 5)) for r in range(size)
        ]
        return [{key for own in parts for part in own[i : i + accumulate] for key in part}
                for i in range(0, len(parts[0]), accumulate)]  # fmt: skip

    assert steps(1, 1) == steps(2, 1) == steps(3, 2) and [len(s) for s in steps(1, 1)] == [12] * 4


def test_each_epoch_has_an_order_of_its_own():
    batches = EpochBatches(50, 10, 1, ALONE, 5)
    first = [i for batch in batches for _, i in batch]
    batches.epoch = 1
    second = [i for batch in batches for _, i in batch]
    assert sorted(first) == sorted(second) == list(range(50)) and first != second


@pytest.mark.parametrize(("batch_size", "accumulate"), [(10, 4), (2, 4), (64, 1)])
def test_a_batch_that_cannot_be_shared_out_is_refused(batch_size, accumulate):
    with pytest.raises(ValueError, match="expected"):
        EpochBatches(50, batch_size, accumulate, ALONE, 0)


def test_each_epoch_is_a_line_of_loss_scores_learning_rate_and_speed():
    row = {"loss": 0.51234, "lr": 3e-4, "samples_per_s": 41.26, "wait_share": 0.125}
    line = "epoch 2/9: loss 0.5123, lr 0.0003, 41.3 samples/s, 12% of the time waiting for data"
    assert engine.epoch_text(2, 9, row) == line
    assert ", score 0.812, auc present 0.900, lr" in engine.epoch_text(2, 9, row | {"score": 0.812, "auc_present": 0.9})


def test_best_is_kept_only_when_better_and_a_nan_score_never_wins(tmp_path, capsys):
    messages = iter([0.6, math.nan, 0.7, 0.65])

    def evaluate(model):
        return {"score": next(messages)}

    config = replace(CONFIG, epochs=4)
    scores = engine.fit(make_model(), Points(64, 0), loss, evaluate, config, tmp_path, ALONE)
    best = load_checkpoint(tmp_path / "best.pth")
    assert best["epoch"] == 3 and best["scores"] == {"score": 0.7} and best["config"]["optimistic"]
    assert load_checkpoint(tmp_path / "last.pth")["epoch"] == 4 and scores == {"score": 0.65}
    assert "epoch 2: the score is NaN" in capsys.readouterr().out


def test_the_held_out_fold_is_asked_every_so_many_epochs_and_after_the_last(tmp_path):
    asked = []

    def evaluate(model):
        assert not model.training
        asked.append(model)
        return {"score": 0.9 - 0.1 * len(asked)}

    def train_on(epochs: int, resume: bool) -> dict:
        config = replace(CONFIG, epochs=epochs, evaluate_every=2)
        return engine.fit(make_model(), Points(64, 0), loss, evaluate, config, tmp_path, ALONE, resume=resume)

    assert train_on(5, resume=False) == {"score": 0.9 - 0.1 * 3}
    history = pd.read_csv(tmp_path / "history.csv")
    assert history.epoch[history.score.notna()].tolist() == [2, 4, 5]
    assert load_checkpoint(tmp_path / "best.pth")["epoch"] == 2
    assert load_checkpoint(tmp_path / "last.pth")["epoch"] == 5
    assert train_on(5, resume=True) == {"score": 0.9 - 0.1 * 3} and len(asked) == 3  # finished: nothing is done again


def test_a_loss_that_is_no_number_stops_the_run_and_says_so(tmp_path):
    with pytest.raises(ValueError, match="epoch 1, step 1 of 4: the loss is nan, of sample "):
        engine.fit(make_model(), Points(64, 0), lambda model, batch: model(batch["x"]).mean() * math.nan,
                       lambda model: {}, CONFIG, tmp_path, ALONE)  # fmt: skip


def test_the_average_of_a_constant_is_that_constant_and_follows_a_change():
    update = ema_update(0.5)
    average, current = [torch.tensor([1.0])], [torch.tensor([3.0])]
    update(average, current, 100)
    assert average[0].item() == pytest.approx(2.0)  # 0.5 * 1 + 0.5 * 3
    update(average, current, 0)
    assert average[0].item() == pytest.approx(0.1 * 2 + 0.9 * 3)  # decay (1 + 0) / (10 + 0) at the first step


def test_a_checkpoint_of_other_labels_or_none_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="none.pth: no such checkpoint"):
        load_checkpoint(tmp_path / "none.pth")
    save_state(tmp_path / "other.pth", {"labels": ["a", "b"], "weights": {}})
    with pytest.raises(ValueError, match="other.pth: expected the labels"):
        load_checkpoint(tmp_path / "other.pth")


def test_precision_is_what_was_asked_for_and_a_wrong_name_is_refused():
    cpu = torch.device("cpu")
    with training_precision(cpu, "bf16").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with training_precision(cpu, "fp32").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert not training_precision(cpu, "bf16").scaler().is_enabled()
    with pytest.raises(ValueError, match="expected one of auto, bf16"):
        training_precision(cpu, "fp8")


@pytest.mark.parametrize("native", ["bf16", "fp16", "fp32"])
def test_a_cpu_predicts_in_float32_whatever_it_trains_in_and_a_gpu_in_what_it_computes_natively(monkeypatch, native):
    monkeypatch.setattr("aneurysm.training.precision.native_format", lambda *_: native)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[native]
    assert training_precision(torch.device("cpu")).dtype == dtype
    assert inference_precision(torch.device("cpu")).dtype == torch.float32
    assert inference_precision(torch.device("cpu"), "bf16").dtype == torch.bfloat16
    assert inference_precision(torch.device("cuda")).dtype == dtype
    assert inference_precision(torch.device("cuda"), "fp32").dtype == torch.float32


@pytest.mark.parametrize(("speedup", "expected"), [(0.8, "fp32"), (1.1, "fp32"), (1.5, "bf16")])
def test_a_cpu_trains_in_bfloat16_only_where_it_has_it_and_it_is_measured_to_be_faster(monkeypatch, speedup, expected):
    cpu = torch.device("cpu")
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda depthwise: speedup)
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)
    assert native_format(cpu) == expected
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: False)
    assert native_format(cpu) == "fp32"


def test_the_measurement_of_bfloat16_changes_no_random_number():
    precision.bfloat16_speedup.cache_clear()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert 0 < precision.bfloat16_speedup(depthwise=True) < 1000
    assert torch.equal(torch.rand(4), expected)


def test_bfloat16_is_measured_on_convolutions_of_the_models_kind(monkeypatch):
    cpu, dense = torch.device("cpu"), nn.Sequential(nn.Conv3d(4, 4, 3))
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda depthwise: 0.5 if depthwise else 1.5)
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)
    assert native_format(cpu, dense) == native_format(cpu) == "bf16"
    assert native_format(cpu, nn.Sequential(dense, nn.Conv2d(4, 4, 5, groups=4))) == "fp32"


def test_training_takes_numbers_too_small_for_a_float_for_zero(tmp_path):
    torch.set_flush_denormal(False)
    tiny = torch.tensor(1e-39)  # made before: constants are not computed
    assert tiny * 1 > 0
    train(tmp_path, replace(CONFIG, epochs=1), ALONE)
    assert tiny * 1 == 0


def test_without_a_terminal_progress_is_printed_line_by_line(tmp_path, capsys):
    train(tmp_path, replace(CONFIG, epochs=2, log_every=3), ALONE)
    lines = [line for line in capsys.readouterr().out.splitlines() if ", step " in line]
    assert [line.split(":")[0] for line in lines] == ["epoch 1, step 3/4", "epoch 2, step 2/4"]  # of 4
    assert all(
        re.search(r"loss [\d.]+, lr 0[.\d]+, [\d.e+]+ samples/s, \d+% of the time waiting", line) for line in lines
    )
