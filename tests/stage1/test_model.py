"""Stage 1's network on encoders of three kinds: shapes, gradients, the place of heatmaps, what timm itself says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from aneurysm.stage1.config import ModelConfig
from aneurysm.stage1.model import Stage1Net
from aneurysm.training.losses import location_log_probability, logits_of

torch.set_num_threads(1)

# A name, an image size that is not the pretrained one, and the numbers before the classifier, as timm documents them.
ENCODERS = [
    ("tf_efficientnet_lite0", 96, 1280),
    ("mobilenetv4_conv_small", 64, 1280),
    ("vit_tiny_patch16_224", 64, 192),
    ("convnext_atto", 64, 320),
]
ALL_HEADS = ModelConfig(heatmap_weight=1.0, vessel_weight=1.0, neck_width=16)


def make(name: str, size: int, heads: ModelConfig = ALL_HEADS) -> Stage1Net:
    torch.manual_seed(0)
    return Stage1Net(name, heads, size).eval()


def images(size: int, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "size", "n_features"), ENCODERS)
@pytest.mark.parametrize("stride", [8, 16])
def test_every_output_has_its_shape(name, size, n_features, stride):
    model = make(name, size, replace(ALL_HEADS, heatmap_stride=stride))
    shapes = {key: tuple(value.shape) for key, value in model(images(size)).items()}
    n = size // stride
    assert shapes == {
        "features": (2, n_features), "logits": (2, 14), "vessels": (2, 14, n, n),
        "aneurysm_map": (2, 1, n, n), "location_map": (2, 13, n, n), "heatmap": (2, 14, n, n),
        "peak_features": (2, 16 + 14),
    }  # fmt: skip
    assert model.n_features == n_features == model.encoder.head_hidden_size


@pytest.mark.parametrize(("heatmap", "vessels"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_a_head_whose_loss_weighs_nothing_is_not_there(heatmap, vessels):
    model = make("convnext_atto", 64, replace(ALL_HEADS, heatmap_weight=heatmap, vessel_weight=vessels))
    names = {"features", "logits"} | ({"heatmap"} if heatmap else set()) | ({"vessels"} if vessels else set())
    assert set(model(images(64))) == names | ({"aneurysm_map", "location_map", "peak_features"} if heatmap else set())
    parts = {name.split(".")[0] for name, _ in model.named_parameters()}
    expected = {"encoder", "logits"} | ({"neck"} if heatmap or vessels else set()) | names - {"features"}
    assert parts == expected | ({"evidence_scale"} if heatmap else set())  # of the heatmaps' peaks in the logits


def test_peak_features_are_the_numbers_that_the_highest_pixel_is_told_from():
    """The last layers of both heads are linear: on the peak's numbers they give the map's highest value and the vessels
    of that pixel."""
    model = make("convnext_atto", 64)
    prediction = model(images(64))
    width = model.heatmap.aneurysm.in_channels
    known, vessels = prediction["peak_features"][:, :width], prediction["peak_features"][:, width:]
    found = known @ model.heatmap.aneurysm.weight.flatten(1).T + model.heatmap.aneurysm.bias
    torch.testing.assert_close(found[:, 0], prediction["aneurysm_map"].amax(dim=(1, 2, 3)))
    for i, pixels in enumerate(prediction["aneurysm_map"].flatten(1)):
        row, column = divmod(int(pixels.argmax()), prediction["aneurysm_map"].shape[-1])
        torch.testing.assert_close(vessels[i], prediction["vessels"][i, :, row, column])


@pytest.mark.parametrize(("name", "size", "n_features"), ENCODERS)
def test_features_are_those_that_timm_gives_for_a_normalised_image(name, size, n_features):
    model = make(name, size)
    encoder = model.encoder
    mean, std = (torch.tensor(encoder.default_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        seen = (images(size) - mean) / std
        expected = encoder.forward_head(encoder.forward_features(seen), pre_logits=True)
        torch.testing.assert_close(model(images(size))["features"], expected)
    assert (expected - expected.mean()).abs().max() > 0.01  # they say something


@pytest.mark.parametrize(("name", "size", "n_features"), ENCODERS)
@pytest.mark.parametrize("output", ["logits", "heatmap", "vessels"])
def test_gradients_of_each_output_reach_the_first_layer_of_the_encoder(name, size, n_features, output):
    model = make(name, size)
    model(images(size))[output].square().sum().backward()
    first = next(parameter for parameter in model.encoder.parameters() if parameter.ndim == 4)  # a convolution
    assert first.grad is not None and first.grad.abs().max() > 0


@pytest.mark.parametrize(("name", "size"), [("convnext_atto", 128), ("vit_tiny_patch16_224", 128)])
@pytest.mark.parametrize("stride", [8, 16])
def test_a_heatmap_pixel_looks_at_its_own_place_in_the_image(name, size, stride):
    model = make(name, size, replace(ALL_HEADS, heatmap_stride=stride, neck_width=96))
    rows, columns = (2, 4, 6), (5, 3, 1)  # of 8 x 8 fields of 16 pixels
    changed = images(size, 1).repeat(4, 1, 1, 1)
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        changed[1 + i, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 0
    with torch.no_grad():
        prediction = model(changed)
        maps = torch.cat(
            [prediction["aneurysm_map"], prediction["vessels"]], dim=1
        )  # the location's looks at the whole image, too
    difference = (maps[1:] - maps[:1]).abs().mean(dim=1)
    by_field = torch.nn.functional.avg_pool2d(difference, 16 // stride).flatten(1).argmax(dim=1)
    found = np.stack(np.divmod(by_field.numpy(), 8))
    assert np.abs(found - [rows, columns]).max() <= 1  # convolutions of random weights may lean to one side


@pytest.mark.parametrize(("stride", "n_levels"), [(8, 3), (16, 2)])
def test_maps_of_every_stride_from_the_heatmaps_own_to_32_make_the_heatmaps(stride, n_levels):
    model = make("convnext_atto", 128, replace(ALL_HEADS, heatmap_stride=stride))
    model(images(128))["heatmap"].square().sum().backward()
    gradients = [level.weight.grad.abs().max().item() for level in model.neck.lateral]
    assert len(gradients) == n_levels and min(gradients) > 0


def test_heatmaps_start_at_about_one_in_a_hundred():
    with torch.no_grad():
        found = make("convnext_atto", 64, ModelConfig())(images(64))["aneurysm_map"].sigmoid()
    assert 0.005 < found.mean() < 0.02


def test_the_heat_of_a_location_is_the_chance_of_an_aneurysm_times_that_of_the_location():
    found = torch.tensor([0.0, math.log(3)]).view(1, 1, 1, 2)  # 1/2 and 3/4
    location = torch.zeros(1, 13, 1, 2)
    location[0, 4, 0, 1] = math.log(24)  # 24 / (24 + 12): two thirds, one in thirty-six for each other
    heatmap = logits_of(location_log_probability(found, location)).sigmoid()[0, :, 0]
    assert heatmap[:, 0].tolist() == pytest.approx([1 / 26] * 13)
    assert heatmap[:, 1].tolist() == pytest.approx([0.5 if i == 4 else 1 / 48 for i in range(13)])


def test_heat_stays_finite_where_all_is_certain():
    found, location = torch.tensor([-80.0, 80.0]).view(1, 1, 1, 2), torch.zeros(1, 13, 1, 2)
    location[:, 0] = 200.0
    assert logits_of(location_log_probability(found.requires_grad_(), location)).isfinite().all()
    logits_of(location_log_probability(found, location)).sum().backward()
    assert found.grad.isfinite().all()


@pytest.mark.parametrize(("name", "size"), [("vit_small_patch8_224", 64), ("vit_small_patch14_dinov2", 112)])
def test_patches_smaller_than_the_heatmaps_stride_give_heatmaps_too(name, size):
    model = make(name, size, replace(ALL_HEADS, heatmap_stride=16))
    assert model(images(size, 1))["heatmap"].shape == (1, 14, size // 16, size // 16)


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224", "tf_efficientnet_lite0"])
def test_gradient_checkpointing_computes_twice_and_changes_neither_outputs_nor_gradients(name):
    def prediction(checkpointing: bool) -> tuple[torch.Tensor, torch.Tensor, int]:
        model, calls = make(name, 64, replace(ALL_HEADS, grad_checkpointing=checkpointing)), []
        for module in model.encoder.modules():
            module.register_forward_hook(lambda *_: calls.append(1))
        heatmap = model(images(64))["heatmap"]
        heatmap.square().sum().backward()
        return heatmap, next(model.encoder.parameters()).grad, len(calls)

    *plain, n_plain = prediction(False)
    *saving, n_saving = prediction(True)
    torch.testing.assert_close(plain, saving)
    assert n_saving > 1.5 * n_plain


@pytest.mark.parametrize(
    ("name", "size", "heads", "words"),
    [
        ("convnext_attto", 64, ALL_HEADS, "encoder convnext_attto: timm .* has no such model"),
        ("convnext_atto.nobody", 64, ALL_HEADS, "encoder convnext_atto.nobody: Invalid pretrained tag"),
        ("levit_128s", 64, ALL_HEADS, "encoder levit_128s: The size of tensor"),  # made for 224 pixels alone
        ("pit_ti_224", 64, replace(ALL_HEADS, grad_checkpointing=True), "encoder pit_ti_224: .*checkpointing not supp"),
        ("vit_tiny_patch16_224", 72, ALL_HEADS, "patch16_224: image_size 72: expected a multiple of its patches"),
        ("convnext_atto", 72, replace(ALL_HEADS, heatmap_stride=16), "expected a multiple of heatmap_stride, 16"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_in_one_sentence(name, size, heads, words):
    with pytest.raises(ValueError, match=words):
        Stage1Net(name, heads, size)


def test_drop_path_and_dropout_are_those_of_the_configuration():
    model = make("convnext_atto", 64, replace(ALL_HEADS, drop_path_rate=0.3, drop_rate=0.4))
    rates = [module.drop_prob for module in model.encoder.modules() if isinstance(module, timm.layers.DropPath)]
    assert max(rates) == pytest.approx(0.3) and model.logits[0].p == 0.4
    model.train()
    assert not np.allclose(*(model(images(64))["logits"].detach().numpy() for _ in range(2)))
