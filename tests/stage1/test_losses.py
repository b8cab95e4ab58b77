"""The losses of stage 1 on numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from aneurysm.folds.targets import RIM
from aneurysm.stage1.config import LossConfig, ModelConfig
from aneurysm.stage1.losses import SAC_PIXELS, Stage1Loss, logits_loss
from aneurysm.training.losses import (
    BACKGROUND_WEIGHT,
    UNKNOWN,
    location_loss,
    sac_loss,
    vessel_location_loss,
    vessel_loss,
)

LN2, LN3 = math.log(2), math.log(3)  # a logit of ln 3 is a probability of 3/4
BOTH = ModelConfig(heatmap_weight=1.0, vessel_weight=1.0)


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


MAP = torch.tensor([[[0.0, LN3], [-LN3, 0.0]]])  # (1, 2, 2) probabilities 1/2, 3/4, 1/4, 1/2
SAC = torch.tensor([[[4, RIM], [0, 0]]], dtype=torch.uint8)  # an aneurysm of location 3, its rim, and none


def test_the_loss_of_a_map_of_four_pixels_by_hand():
    focal = 0.5**2 * LN2 + 0.25**2 * -math.log(0.75) + 0.5**2 * LN2  # (1 - p)^2 * -ln p, twice p^2 * -ln(1 - p)
    assert sac_loss(MAP, SAC, dice_weight=0.0, sac_pixels=SAC_PIXELS).item() == pytest.approx(focal / SAC_PIXELS)
    dice = 1 - (2 * 0.5 + 1) / ((0.5 + 0.25 + 0.5) + 1 + 1)  # the rim is left out
    assert sac_loss(MAP, SAC, dice_weight=3.0, sac_pixels=SAC_PIXELS).item() == pytest.approx(
        focal / SAC_PIXELS + 3 * dice, rel=1e-6
    )


def test_a_rim_answered_in_either_way_costs_the_same():
    other = MAP.clone()
    other[0, 0, 1] = -8.0
    assert sac_loss(other, SAC, 1.0, SAC_PIXELS).item() == pytest.approx(sac_loss(MAP, SAC, 1.0, SAC_PIXELS).item())


def test_parts_of_a_batch_weigh_alike_however_many_aneurysms_they_have():
    random = torch.Generator().manual_seed(0)
    logits, sac = torch.randn(6, 4, 4, generator=random), torch.zeros(6, 4, 4, dtype=torch.uint8)
    sac[0] = 5  # all of the first window, one pixel of the last
    sac[5, 3, 3] = 1
    halves = [sac_loss(logits[part], sac[part], 1.0, SAC_PIXELS) for part in (slice(0, 3), slice(3, 6))]
    assert sum(halves).item() / 2 == pytest.approx(sac_loss(logits, sac, 1.0, SAC_PIXELS).item(), rel=1e-5)


def test_the_location_is_told_where_an_aneurysm_is_and_nowhere_else():
    logits, sac = torch.zeros(2, 13, 1, 2), torch.zeros(2, 1, 2, dtype=torch.uint8)
    logits[0, 5, 0, 1] = math.log(36)  # 36 / (36 + 12): three quarters
    sac[0, 0] = torch.tensor([RIM, 6])
    sac[1, 0] = torch.tensor([3, 4])
    expected = (-math.log(0.75) + 2 * math.log(13)) / (2 * SAC_PIXELS)
    assert location_loss(logits, sac, SAC_PIXELS).item() == pytest.approx(expected)


def test_the_location_is_learned_from_known_vessels_as_well():
    logits = torch.zeros(1, 13, 2, 2)
    logits[0, 3, 0, 0] = 2.0  # right
    logits[0, 5, 0, 1] = 2.0  # wrong
    vessels = torch.tensor([[[4, 8], [0, UNKNOWN]]], dtype=torch.uint8)
    spread = math.log(12 + math.exp(2))
    assert vessel_location_loss(logits, vessels).item() == pytest.approx(((spread - 2) + spread) / 2)
    assert vessel_location_loss(logits, torch.full_like(vessels, UNKNOWN)).item() == 0


def test_the_loss_of_vessels_is_that_of_the_pixels_that_are_known():
    logits = torch.zeros(1, 14, 1, 3)
    logits[0, 3, 0, 1] = math.log(27)  # e^ln27 / (27 + 13) = 27/40
    vessels = torch.tensor([[[0, 3, UNKNOWN]]], dtype=torch.uint8)
    expected = (BACKGROUND_WEIGHT * math.log(14) - math.log(27 / 40)) / (1 + BACKGROUND_WEIGHT)
    assert vessel_loss(logits, vessels).item() == pytest.approx(expected)


def test_vessels_that_nobody_knows_cost_nothing_and_still_have_a_gradient():
    logits = torch.randn(2, 14, 2, 2, requires_grad=True)
    loss = vessel_loss(logits, torch.full((2, 2, 2), UNKNOWN, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() == 0


class WindowPredictions(nn.Module):
    """Answers always the same, whatever the image."""

    def __init__(self, **predictions: torch.Tensor):
        super().__init__()
        self.predictions = predictions

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.predictions


BATCH = {
    "image": torch.zeros(1, 3, 4, 4), "labels": window(1.0),
    "sac": SAC, "vessels": torch.tensor([[[0, 3], [0, 0]]], dtype=torch.uint8),
}  # fmt: skip
PARTS = {
    "logits": window(LN3), "aneurysm_map": MAP[:, None], "location_map": torch.zeros(1, 13, 2, 2), "heatmap": MAP,
    "vessels": torch.zeros(1, 14, 2, 2),
}  # fmt: skip


@pytest.mark.parametrize("weights", [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0), (0.5, 2, 3)])
def test_the_whole_loss_is_the_weighted_sum_of_its_parts(weights):
    config = LossConfig(logits_weight=weights[0], logits="focal", dice_weight=0.5, location_weight=0.2)
    # One pixel of an aneurysm, all locations alike.
    heatmap = sac_loss(MAP, SAC, 0.5, SAC_PIXELS).item() + 0.2 * math.log(13) / SAC_PIXELS
    parts = logits_loss(PARTS["logits"], BATCH["labels"], config).item(), heatmap, math.log(14) + math.log(13)
    loss = Stage1Loss(config, ModelConfig(heatmap_weight=weights[1], vessel_weight=weights[2]))
    expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    assert loss(WindowPredictions(**PARTS), BATCH).item() == pytest.approx(expected)


def test_a_model_without_maps_needs_no_targets_of_them():
    loss = Stage1Loss(LossConfig(), replace(BOTH, heatmap_weight=0, vessel_weight=0))
    value = loss(WindowPredictions(logits=PARTS["logits"]), {"image": BATCH["image"], "labels": BATCH["labels"]})
    assert value.item() == pytest.approx((13 * LN2 - 4 * math.log(0.75)) / 17)
