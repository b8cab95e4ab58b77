"""Batch norms folded into convolutions: same outputs, and taken out again to the same values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aneurysm.stage1.config import ModelConfig
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.norms import FoldedNorm, conv_norm_pairs, fold_norms, unfolded


def unlike_new(model: nn.Module) -> nn.Module:
    """Batch norms with statistics and weights as after training."""
    torch.manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            for values in (norm.running_var, norm.weight):
                nn.init.uniform_(values, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    return model.eval()


@pytest.fixture(params=["tf_efficientnet_lite0", "resnet18", "densenet121", "mobilenetv4_conv_small"])
def model(request) -> Stage1Net:
    made = unlike_new(Stage1Net(request.param, ModelConfig(neck_width=16), 64))
    made.name = request.param
    return made


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def predictions(model: nn.Module) -> dict[str, Tensor]:
    with torch.no_grad():
        return model(IMAGES)


def test_outputs_stay_and_norms_go(model):
    before, pairs = predictions(model), conv_norm_pairs(model)
    model.fold_norms()
    after = predictions(model)
    assert sum(isinstance(module, FoldedNorm) for module in model.modules()) == len(pairs) > 15
    for name, expected in before.items():
        torch.testing.assert_close(after[name], expected, rtol=0, atol=1e-4 * (1 + float(expected.abs().max())))
    model.fold_norms()  # nothing is left to fold
    torch.testing.assert_close(predictions(model)["logits"], after["logits"], rtol=0, atol=0)


def test_folded_norms_are_taken_out_again(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = Stage1Net(model.name, ModelConfig(neck_width=16), 64)
    assert unfolded(fresh, before).keys() == before.keys()
    model.fold_norms()
    after = unfolded(fresh, model.state_dict())
    assert after.keys() == before.keys()
    for name, expected in before.items():
        torch.testing.assert_close(after[name], expected, rtol=1e-4, atol=1e-5)


class Shared(nn.Module):
    """A norm that comes next to a convolution, but is not applied to its output alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images) + images)


def test_nothing_is_folded_where_that_would_change_the_output():
    model = unlike_new(Shared())
    before, state = model(IMAGES), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold_norms(model, IMAGES[:1])
    torch.testing.assert_close(model(IMAGES), before, rtol=0, atol=0)
    assert {name: tensor.tolist() for name, tensor in model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }


def test_a_channel_that_is_scaled_to_nothing_stays_with_its_norm():
    model = unlike_new(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)))
    with torch.no_grad():
        model[1].weight[2] = 0
    fold_norms(model, IMAGES[:1])
    assert isinstance(model[1], nn.BatchNorm2d)


def test_frozen_convolutions_stay_frozen():
    model = unlike_new(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))).requires_grad_(False)
    fold_norms(model, IMAGES[:1])
    assert isinstance(model[1], FoldedNorm) and not any(p.requires_grad for p in model.parameters())
