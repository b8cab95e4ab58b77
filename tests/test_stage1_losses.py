"""The losses of stage 1 on numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from aneurysm.stage1.config import HeadsConfig, LossConfig
from aneurysm.stage1.losses import UNKNOWN, Stage1Loss, heat_loss, location_loss, logits_loss, vessel_loss

LN2, LN3 = math.log(2), math.log(3)  # a logit of ln 3 is a probability of 3/4
BOTH = HeadsConfig(heat_weight=1.0, vessel_weight=1.0)


def window(present: float = 0.0) -> torch.Tensor:
    """(1, 14) zeros, and the last."""
    values = torch.zeros(1, 14)
    values[0, 13] = present
    return values


def test_cross_entropy_weighs_aneurysm_present_more():
    # Thirteen logits of 0 (ln 2 each) and one of ln 3 for a positive (-ln 3/4), which weighs 4.
    loss = logits_loss(window(LN3), window(1.0), LossConfig(present_weight=4.0))
    assert loss.item() == pytest.approx((13 * LN2 + 4 * -math.log(0.75)) / 17)
    even = logits_loss(window(LN3), window(1.0), LossConfig(present_weight=1.0))
    assert even.item() == pytest.approx((13 * LN2 - math.log(0.75)) / 14)


def test_focal_loss_counts_what_is_nearly_right_by_the_square_of_what_is_missing():
    config = LossConfig(logits="focal", present_weight=1.0)
    right = logits_loss(window(LN3), window(1.0), config)
    assert right.item() == pytest.approx((13 * 0.5**2 * LN2 + 0.25**2 * -math.log(0.75)) / 14)
    wrong = logits_loss(window(LN3), window(0.0), config)
    assert wrong.item() == pytest.approx((13 * 0.5**2 * LN2 + 0.75**2 * -math.log(0.25)) / 14)


def test_the_loss_of_two_windows_is_their_mean():
    config, first, second = LossConfig(), window(LN3), window(-1.0)
    labels = window(1.0)
    both = logits_loss(torch.cat([first, second]), torch.cat([labels, labels]), config)
    assert both.item() == pytest.approx((logits_loss(first, labels, config) + logits_loss(second, labels, config)) / 2)


MAP = torch.tensor([[[[0.0, LN3], [-LN3, 0.0]]]])  # probabilities 1/2, 3/4, 1/4, 1/2
TARGET = torch.tensor([[[[1.0, 0.5], [0.0, 0.5]]]])


def test_the_penalty_reduced_loss_of_a_map_of_four_pixels():
    expected = (
        0.5**2 * LN2  # at the localizer: (1 - p)^2 * -ln p
        + 0.75**2 * -math.log(0.25) * 0.5**4  # near it: p^2 * -ln(1 - p) * (1 - target)^4
        + 0.25**2 * -math.log(0.75)
        + 0.5**2 * LN2 * 0.5**4
    )
    assert heat_loss(MAP, TARGET, "penalty").item() == pytest.approx(expected)


def test_the_focal_loss_of_a_map_follows_its_formula_with_targets_between_0_and_1():
    def pixel(p: float, target: float) -> float:
        cross_entropy = -target * math.log(p) - (1 - target) * math.log(1 - p)
        return (1 - (p * target + (1 - p) * (1 - target))) ** 2 * cross_entropy

    expected = pixel(0.5, 1.0) + pixel(0.75, 0.5) + pixel(0.25, 0.0) + pixel(0.5, 0.5)
    assert heat_loss(MAP, TARGET, "focal").item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["penalty", "focal"])
def test_parts_of_a_batch_weigh_alike_however_many_localizers_they_have(kind):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 13, 4, 4, generator=random)
    target = torch.rand(6, 13, 4, 4, generator=random) * 0.9
    target[0, :, 0, 0] = 1  # thirteen localizers in the first half, one in the second
    target[5, 0, 3, 3] = 1
    whole = heat_loss(logits, target, kind)
    halves = [heat_loss(logits[part], target[part], kind) for part in (slice(0, 3), slice(3, 6))]
    assert sum(halves).item() / 2 == pytest.approx(whole.item(), rel=1e-5)


def test_the_location_is_told_at_the_localizers_alone():
    logits, target = torch.zeros(2, 13, 1, 2), torch.zeros(2, 13, 1, 2)
    logits[0, 5, 0, 1] = math.log(36)  # 36 / (36 + 12): three quarters
    target[0, 5, 0, 1] = 1
    target[0, 5, 0, 0] = 0.9  # near it, but not at it
    target[1, 2, 0, 0] = target[1, 3, 0, 0] = 1  # two localizers in one pixel
    expected = (-math.log(0.75) + 2 * math.log(13)) / 2
    assert location_loss(logits, target).item() == pytest.approx(expected)


def test_the_loss_of_vessels_is_that_of_the_pixels_that_are_known():
    logits = torch.zeros(1, 14, 1, 3)
    logits[0, 3, 0, 1] = math.log(27)  # e^ln27 / (27 + 13) = 27/40
    vessels = torch.tensor([[[0, 3, UNKNOWN]]], dtype=torch.uint8)
    assert vessel_loss(logits, vessels).item() == pytest.approx((math.log(14) - math.log(27 / 40)) / 2)


def test_vessels_that_nobody_knows_cost_nothing_and_still_have_a_gradient():
    logits = torch.randn(2, 14, 2, 2, requires_grad=True)
    loss = vessel_loss(logits, torch.full((2, 2, 2), UNKNOWN, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() == 0


class Answers(nn.Module):
    """Answers always the same, whatever the image."""

    def __init__(self, **answers: torch.Tensor):
        super().__init__()
        self.answers = answers

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.answers


BATCH = {
    "image": torch.zeros(1, 3, 4, 4), "labels": window(1.0),
    "heat": torch.zeros(1, 13, 2, 2).index_copy(1, torch.tensor([3]), TARGET),
    "vessels": torch.zeros((1, 2, 2), dtype=torch.uint8),
}  # fmt: skip
PARTS = {
    "logits": window(LN3), "found": MAP, "location": torch.zeros(1, 13, 2, 2), "heat": MAP,
    "vessels": torch.zeros(1, 14, 2, 2),
}  # fmt: skip


@pytest.mark.parametrize("weights", [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0), (0.5, 2, 3)])
def test_the_whole_loss_is_the_weighted_sum_of_its_parts(weights):
    config = LossConfig(logits_weight=weights[0], logits="focal", heat="penalty", location_weight=0.2)
    heat = heat_loss(MAP, TARGET, "penalty").item() + 0.2 * math.log(13)  # one localizer, all locations alike
    parts = logits_loss(PARTS["logits"], BATCH["labels"], config).item(), heat, math.log(14)
    loss = Stage1Loss(config, HeadsConfig(heat_weight=weights[1], vessel_weight=weights[2]))
    expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    assert loss(Answers(**PARTS), BATCH).item() == pytest.approx(expected)


def test_a_model_without_maps_needs_no_targets_of_them():
    loss = Stage1Loss(LossConfig(), replace(BOTH, heat_weight=0, vessel_weight=0))
    value = loss(Answers(logits=PARTS["logits"]), {"image": BATCH["image"], "labels": BATCH["labels"]})
    assert value.item() == pytest.approx((13 * LN2 - 4 * math.log(0.75)) / 17)
