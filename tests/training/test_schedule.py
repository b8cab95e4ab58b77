"""Learning rates that follow what training brings, memory layouts, and the loss of labels: by hand."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from aneurysm.training import engine as fit_module
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from aneurysm.training.losses import label_loss, label_weights, pos_weights
from aneurysm.training.precision import batch_on, channels_last_model
from aneurysm.training.state import make_schedule
from tests.small_training import Points, loss, make_model

ALONE = DistContext(0, 1, torch.device("cpu"))
PLATEAU = TrainingConfig(
    epochs=8, batch_size=32, lr=0.1, schedule="plateau", plateau_patience=1, plateau_factor=0.5, warmup_epochs=1,
    ema_decay=0.0, workers=0, precision="fp32",
)  # fmt: skip


def rates(values: list[float], config: TrainingConfig = PLATEAU) -> list[float]:
    """The learning rate after each epoch, of two steps each, that brought these values."""
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), config.lr)
    schedule = make_schedule(optimizer, config, steps_per_epoch=2)
    found = []
    for epoch, value in enumerate(values, start=1):
        for step in (2 * epoch - 1, 2 * epoch):
            schedule.step_update(step)
        schedule.step(epoch, value)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_a_plateau_halves_the_learning_rate_after_more_than_one_epoch_that_brings_nothing():
    # the first is the warm-up's and counts for nothing; 0.5 is the best, then two in a row are no better
    assert rates([0.1, 0.5, 0.6, 0.5, 0.4, 0.45, 0.45]) == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025])


def test_epochs_that_nobody_looked_at_are_no_plateau():
    assert rates([math.nan, 0.5, math.nan, math.nan, 0.6, math.nan, 0.6])[-2:] == pytest.approx([0.1, 0.05])


def test_the_warm_up_of_a_plateau_rises_by_the_step():
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)
    schedule = make_schedule(optimizer, PLATEAU, steps_per_epoch=4)
    found = [optimizer.param_groups[0]["lr"]]
    for step in range(1, 6):
        schedule.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([0.001, 0.02575, 0.0505, 0.07525, 0.1, 0.1])


def run(folder, config: TrainingConfig, scores: list[float], resume: bool = False) -> pd.DataFrame:
    messages = iter(scores)
    fit_module.fit(make_model(), Points(64, 0), loss, lambda model: {"score": next(messages)}, config, folder, ALONE,
                   resume=resume)  # fmt: skip
    return pd.read_csv(folder / "history.csv")


def test_the_loop_lowers_the_learning_rate_where_the_score_stands_still_and_a_resumed_run_remembers(tmp_path):
    config = replace(PLATEAU, plateau_on="score", epochs=7)
    scores = [0.9, 0.6, 0.5, 0.6, 0.7, 0.7, 0.7]
    whole = run(tmp_path / "whole", config, scores)
    assert whole.lr.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05])
    run(tmp_path / "parts", replace(config, epochs=3), scores[:3])  # the bad epoch before the break counts after it
    parts = run(tmp_path / "parts", config, scores[3:], resume=True)
    assert parts.lr.tolist() == whole.lr.tolist() and parts.loss.tolist() == whole.loss.tolist()


def test_a_plateau_resumed_in_its_warm_up_goes_on_rising_to_the_highest_learning_rate(tmp_path):
    config = replace(PLATEAU, lr=1e-3, warmup_epochs=3, epochs=4)
    whole = run(tmp_path / "whole", config, [0.5] * 4)
    assert whole.lr.tolist() == pytest.approx([1e-3 * (0.01 + 0.33), 1e-3 * (0.01 + 0.66), 1e-3, 1e-3])
    run(tmp_path / "parts", replace(config, epochs=1), [0.5])
    parts = run(tmp_path / "parts", config, [0.5] * 3, resume=True)
    assert parts.lr.tolist() == whole.lr.tolist() and parts.loss.tolist() == whole.loss.tolist()


def test_a_plateau_of_the_loss_takes_no_notice_of_the_held_out_score(tmp_path):
    one, other = (run(tmp_path / str(i), PLATEAU, [score] * 8) for i, score in enumerate((0.1, 0.9)))
    assert one.lr.tolist() == other.lr.tolist() and one.loss.tolist() == other.loss.tolist()


def test_images_and_volumes_get_their_channels_last_and_all_else_stays():
    model = channels_last_model(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv3d(2, 4, 3), nn.Linear(2, 2)))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    batch = {"image": torch.rand(2, 3, 4, 5), "volume": torch.rand(2, 3, 4, 5, 6), "labels": torch.rand(2, 14)}
    moved = batch_on(torch.device("cpu"), batch, last=True)
    assert moved["image"].stride() == (60, 1, 15, 3) and moved["volume"].stride() == (360, 1, 90, 18, 3)
    assert all(torch.equal(batch[name], moved[name]) for name in batch)
    assert batch_on(torch.device("cpu"), batch, last=False)["volume"].is_contiguous()


def test_a_label_that_nobody_knows_is_not_asked_about():
    """All logits 0 (log 2 each), positives of 1 in 5 count 4 times, of 1 in 100 at most 10 times."""
    prevalence = torch.full((14,), 0.2)
    prevalence[0] = 0.01
    weight = pos_weights(prevalence, 10.0)
    assert weight.tolist() == pytest.approx([10.0] + [4.0] * 13)
    labels = torch.zeros(2, 14)
    labels[0, 0] = labels[0, 13] = 1
    labels[1] = torch.nan
    labels[1, 13] = 0
    logits = torch.zeros(2, 14, requires_grad=True)
    found = label_loss(logits, labels, weight, label_weights(0.5))
    each = math.log(2)
    assert found.tolist() == pytest.approx([0.5 * 4 * each + 0.5 / 13 * (10 + 12) * each, 0.5 * each])
    found.sum().backward()
    assert (logits.grad[1, :13] == 0).all() and logits.grad[1, 13] > 0
