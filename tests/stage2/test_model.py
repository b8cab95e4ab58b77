"""The transformer of stage 2: padding, millimetres, pooling, and the maximum that it starts from."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from aneurysm.stage2.config import LossConfig, NetConfig
from aneurysm.stage2.layers import GeM, distance_bias, masked_max, masked_mean
from aneurysm.stage2.losses import Stage2Loss, slice_loss
from aneurysm.stage2.max_baseline import MaxBaseline
from aneurysm.stage2.model import Stage2Net
from aneurysm.stage2.tokens import pad_batch
from aneurysm.training.losses import label_weights

NET = NetConfig(width=32, depth=2, heads=4)
INPUTS = ("features", "logits", "heatmap_max", "peaks")
N_FEATURES = 8
WIDTHS = {"features": N_FEATURES, "logits": 14, "heatmap_max": 14, "peaks": 28}


def net(config: NetConfig = NET, inputs: tuple[str, ...] = INPUTS) -> Stage2Net:
    """Any weights but zero, no dropout."""
    torch.manual_seed(0)
    model = Stage2Net(config, inputs, N_FEATURES)
    added = [
        *(model.pooled_head or torch.nn.Identity()).parameters(),
        *(model.slice_head or torch.nn.Identity()).parameters(),
    ]
    for parameter in added:
        torch.nn.init.normal_(parameter, 0, 0.3)
    return model.eval()


def series(n_slices: int, seed: int, spacing_mm: float = 2.0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    tokens = {name: torch.randn(n_slices, n, generator=rng) for name, n in WIDTHS.items()}
    tokens["depth_mm"] = torch.arange(n_slices).flip(0) * spacing_mm
    tokens["mask"] = torch.ones(n_slices, dtype=torch.bool)
    return tokens | {"modality": torch.tensor(1 + seed % 4), "plane": torch.tensor(1)}


def wave(spacing_mm: float, seed: int) -> dict[str, torch.Tensor]:
    """Everything a smooth function of the depth: a sum of waves of 60 mm and longer."""
    rng = np.random.default_rng(seed)
    depth_mm = np.arange(160, -0.1, -spacing_mm)
    tokens = {}
    for name, n in WIDTHS.items():
        rates = rng.uniform(0.2, 2.7, (4, n)) * 2 * np.pi / 160
        phases = rng.uniform(0, 2 * np.pi, (4, n))
        tokens[name] = torch.tensor(np.sin(depth_mm[:, None, None] * rates + phases).sum(axis=1)).float()
    tokens["depth_mm"] = torch.tensor(depth_mm).float()
    tokens["mask"] = torch.ones(len(depth_mm), dtype=torch.bool)
    return tokens | {"modality": torch.tensor(1), "plane": torch.tensor(1)}


def one(tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor[None] for name, tensor in tokens.items()}


@torch.no_grad()
def predictions(model: Stage2Net, items: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """(series, 14), each series asked about alone"""
    return torch.cat([model(one(item)) for item in items])


@pytest.mark.parametrize("pooling", [("gem",), ("mean",), ("max",), ("cls",), ()])
def test_padding_changes_no_answer(pooling):
    model = net(replace(NET, pooling=pooling))
    items = [series(n, seed) for seed, n in enumerate((5, 23, 14))]
    batch = pad_batch(items)
    for name, tensor in batch.items():  # whatever stands where no slice is
        if tensor.ndim > 1 and name != "mask":
            tensor[~batch["mask"]] = 50.0
    with torch.no_grad():
        together, of_slices = model(batch, with_slices=True)
        of_first = model(one(items[0]), with_slices=True)[1]
    assert (of_slices[0, :5] - of_first[0]).abs().max() < 1e-5
    alone = predictions(model, items)
    assert (together - alone).abs().max() < 1e-5 and alone.std(dim=0).min() > 0.01


def test_slices_are_known_by_their_millimetres_alone_and_not_by_their_order():
    model, item = net(), series(20, 0)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = {name: tensor[order] if tensor.ndim else tensor for name, tensor in item.items()}
    moved = item | {"depth_mm": item["depth_mm"] * 1.5}
    original, same, other = predictions(model, [item, shuffled, moved])
    assert (original - same).abs().max() < 1e-5 < 0.01 < (original - other).abs().max()


def test_another_spacing_of_slices_changes_the_answer_little():
    model = net()
    fine, coarse = (predictions(model, [wave(mm, seed) for seed in range(6)]) for mm in (1.0, 2.0))
    assert (fine - coarse).abs().mean() < 0.05 * fine.std(dim=0).mean()


def test_attention_fades_with_millimetres_and_ends_at_the_mask():
    bias = distance_bias(torch.tensor([[0.0, 8.0, 0.0]]), torch.tensor([[True, True, False]]), n_heads=3)
    near, middle, far = bias[0]
    assert near[1, 2] == pytest.approx(-8 / 4) and middle[1, 2] == pytest.approx(-8 / 32)
    assert far[1, 2] == far[2, 1] == pytest.approx(-8 / 256)
    assert (bias[0, :, 0, :3] == 0).all() and (bias[0, :, :3, 0] == 0).all()
    assert (bias[..., 3] == -math.inf).all()


def test_poolings_by_hand():
    x = torch.tensor([[[1.0, -5.0], [3.0, -1.0], [99.0, 99.0]]])
    mask = torch.tensor([[True, True, False]])
    assert masked_mean(x, mask).tolist() == [[2.0, -3.0]] and masked_max(x, mask).tolist() == [[3.0, -1.0]]
    cubes = ((1**3 + 3**3) / 2) ** (1 / 3)
    assert GeM()(x, mask)[0].tolist() == pytest.approx([cubes, 1e-4], abs=1e-5)


def test_an_untrained_model_orders_series_as_the_highest_of_the_maps_does():
    """For Aneurysm Present of the map smoothed over 2 mm; stage 1 without maps has its logits in their place."""
    items = [series(15, seed) for seed in range(40)]
    torch.manual_seed(0)
    model = Stage2Net(NET, INPUTS, N_FEATURES).eval()
    model.start_from([one(item) for item in items], torch.full((14,), 0.2))
    found = predictions(model, items)
    for label in range(14):
        assert (found[:, label].argsort() == highest_of(items, "heatmap_max")[:, label].argsort()).all()
    assert found.mean().sigmoid().item() == pytest.approx(0.2, abs=1e-4)
    without = [item | {"heatmap_max": torch.full_like(item["heatmap_max"], torch.nan)} for item in items]
    model.start_from([one(item) for item in without], torch.full((14,), 0.2))
    found = predictions(model, without)
    for label in range(14):
        assert (found[:, label].argsort() == highest_of(items, "logits")[:, label].argsort()).all()


def highest_of(items: list[dict[str, torch.Tensor]], name: str) -> torch.Tensor:
    """(series, 14)"""
    rows = []
    for item in items:
        near = torch.exp(-((item["depth_mm"][:, None] - item["depth_mm"]) ** 2) / (2 * 2.0**2))
        smooth = (near / near.sum(dim=1, keepdim=True)) @ item[name]
        rows.append(torch.cat([item[name].amax(dim=0)[:13], smooth.amax(dim=0)[13:]]))
    return torch.stack(rows)


def test_the_maxima_of_slices_by_hand():
    """Two slices 3 mm apart weigh each other's values by exp(-9/8) at 2 mm, exp(-1/8) at 6 mm; a third is far."""
    tokens = {"logits": torch.zeros(3, 14), "heatmap_max": torch.zeros(3, 14)}
    tokens["logits"][0, 2], tokens["logits"][0, 13], tokens["heatmap_max"][1, [5, 13]] = 4.0, 2.0, 1.0
    tokens |= {"depth_mm": torch.tensor([60.0, 63.0, 163.0]), "mask": torch.ones(3, dtype=torch.bool)}
    maxima = MaxBaseline(INPUTS).maxima(one(tokens))[0]  # of each smoothing: own logit, logit elsewhere, own heatmap
    share = [1.0, 1 / (1 + math.exp(-9 / 8)), 1 / (1 + math.exp(-1 / 8))]
    own, elsewhere, heatmap = ([maxima[label, kind::3].tolist() for label in (2, 5, 13)] for kind in range(3))
    assert own[0] == pytest.approx([4 * s for s in share]) and own[1] == [0, 0, 0]
    assert own[2] == pytest.approx([2 * s for s in share])
    assert elsewhere[0] == elsewhere[1] == pytest.approx([2 * s for s in share])  # Aneurysm Present
    assert elsewhere[2] == pytest.approx([4 * s for s in share])  # the highest location
    assert heatmap[1] == heatmap[2] == pytest.approx(share) and heatmap[0] == [0, 0, 0]


def test_heat_that_is_not_there_does_no_harm():
    item = series(12, 0)
    item["heatmap_max"][:] = torch.nan
    model = net()
    model.start_from([one(item), one(item)], torch.full((14,), 0.2))
    assert predictions(model, [item]).isfinite().all()


def test_features_beyond_float16_lead_to_a_finite_answer():
    item = series(12, 0)
    item["features"][3, 2], item["features"][4, 1] = torch.inf, torch.nan
    assert predictions(net(), [item]).isfinite().all()


@pytest.mark.parametrize("inputs", [("features",), ("logits",), ("heatmap_max", "peaks"), ("peaks",)])
def test_any_part_of_the_input_can_be_left_out(inputs):
    model = net(inputs=inputs)
    items = [{k: v for k, v in series(9, seed).items() if k in inputs or k not in WIDTHS} for seed in range(2)]
    model.start_from([one(item) for item in items], torch.full((14,), 0.2))
    first, second = predictions(model, items)
    assert (model.max_baseline is not None) == (inputs[0] in ("logits", "heatmap_max")) and (
        first - second
    ).abs().max() > 0.01


def test_modality_and_plane_count():
    model, item = net(), series(9, 0)
    others = [item | {name: torch.tensor(value)} for name in ("modality", "plane") for value in (0, 3)]
    original, *changed = predictions(model, [item, *others])
    assert all((original - other).abs().max() > 1e-3 for other in changed)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"net.width 32: expected a multiple of net.heads, 5"):
        net(replace(NET, heads=5))


def test_the_loss_by_hand():
    """One series, all logits 0 (0.69315 each): half the weight on Aneurysm Present, positives at most 3 times."""
    prevalence = torch.full((14,), 0.1)  # 9 negatives a positive
    labels = torch.zeros(1, 14)
    labels[0, 3] = labels[0, 13] = 1
    loss = Stage2Loss(LossConfig(present_share=0.5, pos_weight_cap=3.0), prevalence)
    found = loss(lambda batch, with_slices: (torch.zeros(1, 14), None), {"labels": labels})
    each = math.log(2)
    assert found.item() == pytest.approx(0.5 * 3 * each + 0.5 * (3 * each + 12 * each) / 13)
    plain = Stage2Loss(LossConfig(present_share=1 / 14, pos_weight_cap=1.0), prevalence)
    found = plain(lambda batch, with_slices: (torch.zeros(1, 14), None), {"labels": labels})
    assert found.item() == pytest.approx(each)


def test_the_loss_of_slices_by_hand():
    """Three slices: one shows label 3, one nothing, of one nothing is known; then a fourth that is not there."""
    labels = torch.zeros(1, 4, 14)
    labels[0, 0, 3] = labels[0, 0, 13] = 1
    labels[0, 2] = torch.nan
    logits = torch.zeros(1, 4, 14)
    logits[0, 0, 13], logits[0, 2:] = 2.0, 30.0
    batch = {"slice_labels": labels, "mask": torch.tensor([[True, True, True, False]]), "labels": torch.zeros(1, 14)}
    each = math.log(2)
    first, second = 0.5 * math.log(1 + math.exp(-2)) + 0.5 * each, each
    of_slices = slice_loss(logits, batch, label_weights(0.5))
    assert of_slices.tolist() == pytest.approx([(first + second) / 2])
    loss = Stage2Loss(LossConfig(slice_weight=7.0), torch.full((14,), 0.1))
    found = loss(lambda batch, with_slices: (torch.zeros(1, 14), logits), batch)
    assert found.item() == pytest.approx(each + 7 * of_slices.item())
    batch["slice_labels"][:] = torch.nan
    assert slice_loss(logits, batch, label_weights(0.5)).tolist() == [0.0]


def test_slices_are_evaluated_again_before_their_maximum_is_taken():
    """What the transformer adds to each slice moves the answer, even where nothing is pooled."""
    items = [series(15, seed) for seed in range(8)]
    torch.manual_seed(0)
    model = Stage2Net(replace(NET, pooling=()), INPUTS, N_FEATURES).eval()
    model.start_from([one(item) for item in items], torch.full((14,), 0.2))
    with torch.no_grad():
        first = model(one(items[0]), with_slices=True)
        assert first[1].mean(dim=(0, 1)).mean().item() == pytest.approx(-5, abs=1)  # few slices show any
        model.slice_head.add.bias[4] = 3.0
        second = model(one(items[0]), with_slices=True)
    moved = second[1] - first[1]
    assert torch.allclose(moved[..., 4], torch.full((1, 15), 3.0)) and moved.abs().sum() == pytest.approx(45, abs=1e-3)
    assert second[0][0, 4] > first[0][0, 4] + 0.1


def test_nothing_pooled_and_no_plain_maximum_is_no_answer():
    with pytest.raises(ValueError, match=r"net.pooling: expected any of gem, mean, max, cls"):
        net(replace(NET, pooling=(), max_baseline=False))
