"""The network: it is torchvision's r3d_18, and flags change what they say and nothing else."""

import copy
import math

import pytest
import torch
from torch import nn
from torchvision.models.video import r3d_18

from aneurysm.folds.targets import RIM
from aneurysm.training.losses import sac_loss, vessel_loss
from volume3d.activations import Activations, statistics
from volume3d.config import ActivationsConfig, LossConfig, NetConfig
from volume3d.inference import mirrored_batch
from volume3d.model import Volume3dNet
from volume3d.patient import PATIENT_KEYS
from volume3d.training import SAC_CELLS, Volume3dLoss
from volume3d.weights import load_weights

SHAPE = (8, 32, 32)


@pytest.fixture(autouse=True)
def seeded():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def batch(n: int = 2) -> dict[str, torch.Tensor]:
    return {"image": torch.rand(n, 1, *SHAPE)} | {key: torch.zeros(n) for key in PATIENT_KEYS}


def net(**settings) -> Volume3dNet:
    return Volume3dNet(NetConfig(**{"width": 16, **settings}))


def test_weights_of_r3d_18_are_summed_over_its_channels_and_answer_alike(tmp_path):
    reference = r3d_18(num_classes=400).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(reference.state_dict(), tmp_path / "r3d.pth")
    model = Volume3dNet(NetConfig()).eval()
    output = load_weights(model, tmp_path / "r3d.pth")
    n_tensors = len(model.backbone.state_dict())
    assert output.startswith(f"{n_tensors} of {n_tensors + 2} tensors from {tmp_path / 'r3d.pth'}; not there: head")
    assert set(reference.state_dict()) - set(model.backbone.state_dict()) == {"fc.weight", "fc.bias"}
    reference.fc = nn.Identity()
    volume = torch.rand(1, 1, *SHAPE)
    with torch.no_grad():
        expected = reference(volume.expand(-1, 3, -1, -1, -1))
        found = model.backbone(volume).mean(dim=(2, 3, 4))
    assert torch.allclose(expected, found, rtol=1e-3, atol=1e-4)


def test_weights_of_a_checkpoint_of_this_system_fit_and_others_are_refused(tmp_path):
    model = net()
    torch.save({"weights": model.state_dict()}, tmp_path / "own.pth")
    other = net()
    load_weights(other, tmp_path / "own.pth")
    assert torch.equal(other.backbone.stem[0].weight, model.backbone.stem[0].weight)
    with pytest.raises(ValueError, match=r"own.pth: expected weights of r3d_18, stem.0.weight \(32, 1, 3, 7, 7\)"):
        load_weights(net(width=32), tmp_path / "own.pth")
    with pytest.raises(ValueError, match="nowhere.pth: no such file"):
        load_weights(model, tmp_path / "nowhere.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ValueError, match="text.pth: expected tensors by name"):
        load_weights(model, tmp_path / "text.pth")


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_checkpointing_changes_neither_outputs_nor_gradients_nor_statistics(norm):
    plain = net(norm=norm)
    kept = net(norm=norm, checkpointing=True)
    kept.load_state_dict(plain.state_dict())
    inputs = [batch(), batch()]
    for model in (plain, kept):
        model.train()
        model.predictions = [model(one)["logits"] for one in inputs]
        sum(prediction.square().sum() for prediction in model.predictions).backward()
    assert all(torch.equal(a, b) for a, b in zip(plain.predictions, kept.predictions, strict=True))
    for (name, one), other in zip(plain.named_parameters(), kept.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6), name
    for (name, one), other in zip(plain.named_buffers(), kept.buffers(), strict=True):
        assert torch.equal(one, other), name
    if norm == "batch":
        assert kept.backbone.layer4[1].conv2[1].num_batches_tracked == 2


def test_checkpointing_computes_each_convolution_again_and_only_in_training():
    model, calls = net(checkpointing=True), []
    model.backbone.layer1[0].conv1[0].register_forward_hook(lambda *_: calls.append(1))
    model.train()
    prediction = model(batch())["logits"]
    assert len(calls) == 1
    prediction.sum().backward()
    assert len(calls) == 3  # of the block, and of the half of the block in it
    calls.clear()
    model.eval()(batch())["logits"].sum().backward()
    assert len(calls) == 1


def test_group_norms_stand_in_for_all_batch_norms_and_do_not_know_the_batch():
    model = net(norm="group")
    kinds = [type(module) for module in model.modules()]
    assert nn.BatchNorm3d not in kinds and kinds.count(nn.GroupNorm) == 20  # stem, 16 in blocks, 3 beside them
    model.train()
    two = batch(2)
    one = {key: tensor[:1] for key, tensor in two.items()}
    with torch.no_grad():
        assert torch.allclose(model(two)["logits"][:1], model(one)["logits"], atol=1e-5)


def test_the_patient_counts_only_where_that_is_asked_for():
    known = batch() | {"age": torch.tensor([1.0, 2.0]), "age_known": torch.ones(2)}
    with torch.no_grad():
        for patient in (False, True):
            model = net(patient=patient).eval()
            image = batch()["image"]
            predictions = [model(one | {"image": image})["logits"] for one in (batch(), known)]
            assert torch.equal(*predictions) != patient


def test_stem_and_width_change_the_feature_map_as_they_say():
    with torch.no_grad():
        maps = {
            stride: net(stem_stride=stride).backbone(torch.rand(1, 1, 16, 32, 32)) for stride in ((1, 2, 2), (2, 2, 2))
        }
    assert maps[(1, 2, 2)].shape == (1, 128, 2, 2, 2) and maps[(2, 2, 2)].shape == (1, 128, 1, 2, 2)
    with pytest.raises(ValueError, match=r"net.width 12: expected a multiple of net.groups, 8"):
        net(width=12)


def test_pooling_by_the_highest_value_finds_what_a_mean_dilutes():
    class OneCell(nn.Module):
        def forward(self, image):
            features = torch.zeros(1, 128, 2, 2, 2)
            features[0, 5, 1, 0, 1] = 8.0
            return features

    for pooling, expected in (("mean", 1.0), ("max", 8.0)):
        model = net(pooling=pooling)
        model.backbone = OneCell()
        model.head.weight.data[:] = 0
        model.head.weight.data[3, 5] = 1
        model.head.bias.data[:] = 0
        assert model(batch(1))["logits"][0].tolist() == [expected if i == 3 else 0.0 for i in range(14)]


def test_training_starts_from_the_prevalences():
    model = net()
    nn.init.zeros_(model.head.weight)
    prevalence = torch.linspace(0.05, 0.5, 14)
    model.start_from(prevalence)
    with torch.no_grad():
        assert torch.allclose(model(batch())["logits"].sigmoid(), prevalence.expand(2, 14), atol=1e-6)


def test_the_loss_by_hand():
    """Logits of 0 cost ln 2 a label; positives of label 3 would count 9 times, capped at 4; label 5 nobody knows."""
    prevalence = torch.full((14,), 0.5)
    prevalence[3] = 0.1
    loss = Volume3dLoss(LossConfig(present_share=0.75, pos_weight_cap=4.0), prevalence)
    labels = torch.zeros(2, 14)
    labels[0, [3, 13]] = 1
    labels[0, 5] = torch.nan
    found = loss(lambda batch: {"logits": torch.zeros(2, 14)}, {"labels": labels})
    first, second = 0.75 + 0.25 / 13 * (4 + 11), 1.0  # the other 11 locations once each
    assert found.item() == pytest.approx(math.log(2) * (first + second) / 2, rel=1e-6)


def test_statistics_by_hand():
    seen = statistics("a", torch.tensor([0.0, 0.0, 1.0, 3.0]), bins=3)
    assert seen["a/mean"] == 1 and seen["a/std"] == pytest.approx(1.5**0.5) and seen["a/zeros"] == 0.5
    counts, edges = seen["a/histogram"]
    assert counts.tolist() == [2, 1, 1] and edges.tolist() == [0, 1, 2, 3]


def test_layers_are_looked_at_every_so_many_steps_with_and_without_checkpointing():
    watched = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = net(checkpointing=checkpointing).train()
        watch = Activations(model.backbone, ActivationsConfig(every=3, layers=("stem", "layer2.1"), bins=8))
        torch.manual_seed(1)
        inputs, seen = batch(), []
        for step in range(1, 8):
            model(inputs)["logits"].sum().backward()
            seen.append(watch(step))
        assert [bool(one) for one in seen] == [False, False, True, False, False, True, False]
        watched.append(seen[2])
        outputs = []
        model.backbone.layer2[1].register_forward_hook(lambda _, __, out, o=outputs: o.append(out.detach().clone()))
        model(inputs)
        assert set(seen[2]) == {f"activations/{layer}/{what}" for layer in ("stem", "layer2.1")
                                for what in ("mean", "std", "zeros", "histogram")}  # fmt: skip
        assert seen[2]["activations/layer2.1/mean"] == pytest.approx(outputs[0].mean().item(), rel=1e-5)
        assert seen[2]["activations/layer2.1/zeros"] == pytest.approx((outputs[0] == 0).float().mean().item(), abs=1e-6)
    assert watched[0]["activations/stem/std"] == pytest.approx(watched[1]["activations/stem/std"])


def test_nothing_is_looked_at_when_the_model_is_only_asked():
    model = net()
    watch = Activations(model.backbone, ActivationsConfig(every=1, layers=("stem",)))
    copy.deepcopy(model).eval()(batch())
    model.eval()(batch())
    assert watch(1) == {}
    model.train()(batch())
    assert len(watch(2)) == 4
    watch.close()
    model.train()(batch())
    assert watch(3) == {}


def test_a_layer_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"activations.layers: expected some of stem, .*layer4.1.*, found layer9"):
        Activations(net().backbone, ActivationsConfig(every=1, layers=("stem", "layer9")))


def dense_net(**settings) -> Volume3dNet:
    return net(**{"stem_stride": (2, 2, 2), "dense": 1, **settings})


def places(n: int = 2, x_mm: float = -20.0) -> dict[str, torch.Tensor]:
    return {"place_mm": torch.tensor([[-60.0, -10.0, x_mm]] * n), "spacing_mm": torch.full((n, 3), 0.8)}


@pytest.mark.parametrize(("layer", "cells"), [(1, (4, 16, 16)), (2, (2, 8, 8)), (4, (1, 2, 2))])
def test_cells_are_as_many_as_the_layer_has_and_the_logits_are_their_highest(layer, cells):
    model = dense_net(dense=layer).eval()
    assert model.config.stride == 2**layer
    with torch.no_grad():
        prediction = model(batch() | places())
    assert prediction["sac"].shape == (2, *cells) and prediction["vessels"].shape == (2, 14, *cells)
    sac, where = prediction["sac"].sigmoid(), prediction["vessels"][:, 1:].softmax(dim=1)
    expected = torch.cat([(sac[:, None] * where).flatten(2).amax(2), sac.flatten(1).amax(1, keepdim=True)], dim=1)
    assert torch.allclose(prediction["logits"].sigmoid(), expected, atol=1e-6)
    assert model.head is None and prediction["logits"].shape == (2, 14)


def test_the_place_in_the_head_counts_for_the_artery_and_not_for_the_aneurysm():
    model, here = dense_net().eval(), batch()
    with torch.no_grad():
        left, right, parted = (model(here | places(x_mm=x)) for x in (-20.0, 20.0, -20.0))
    assert torch.equal(left["sac"], right["sac"]) and torch.equal(left["vessels"], parted["vessels"])
    assert not torch.allclose(left["vessels"], right["vessels"])


def test_a_part_is_answered_as_the_whole_answers_there_as_far_as_places_go():
    """With a backbone that sees one cell, a part that begins elsewhere gets the places of the cells that it shows."""
    model = dense_net().eval()
    features = [torch.zeros(1, 16 * 2**k, 8, 8, 8) for k in range(4)]
    image = torch.zeros(1, 1, 16, 16, 16)
    with torch.no_grad():
        whole = model.dense(features, {"image": image} | places(1))["vessels"]
        half = [features_of[:, :, 4:] for features_of in features]
        higher = places(1)["place_mm"] + torch.tensor([8 * 0.8, 0, 0])
        part = model.dense(half, places(1) | {"image": image[:, :, 8:], "place_mm": higher})["vessels"]
    assert torch.allclose(whole[:, :, 4:], part, atol=1e-5)


def test_the_mirror_image_lies_on_the_other_side():
    one = {"image": torch.rand(1, 1, 4, 4, 10)} | places(1, x_mm=-3.6)
    other = mirrored_batch(one)
    assert torch.equal(other["image"], one["image"].flip(4))
    assert other["place_mm"][0].tolist() == pytest.approx([-60, -10, -3.6])  # ten voxels of 0.8 mm around the middle
    part = mirrored_batch(one | {"place_mm": torch.tensor([[-60.0, -10.0, 8.0]])})
    assert part["place_mm"][0, 2].item() == pytest.approx(-(8 + 9 * 0.8))


def test_cells_of_unlike_sides_are_refused():
    with pytest.raises(ValueError, match=r"net.stem_stride \(1, 2, 2\): expected three alike"):
        dense_net(stem_stride=(1, 2, 2)).config.stride  # noqa: B018


def test_the_loss_of_cells_is_that_of_the_maps_with_their_weights():
    torch.manual_seed(0)
    prediction = {"sac": torch.randn(2, 4, 4, 4), "vessels": torch.randn(2, 14, 4, 4, 4), "logits": torch.zeros(2, 14)}
    sac = torch.zeros(2, 4, 4, 4, dtype=torch.uint8)
    sac[0, 1, 1, 1:3], sac[0, 0, 0, 0] = 5, RIM
    vessels = torch.randint(0, 14, (2, 4, 4, 4), dtype=torch.uint8)
    target = {"labels": torch.zeros(2, 14), "sac": sac, "vessels": vessels}

    def loss(**weights) -> float:
        nothing = {"logits_weight": 0.0, "sac_weight": 0.0, "location_weight": 0.0, "vessel_weight": 0.0}
        return Volume3dLoss(LossConfig(**nothing | weights), torch.full((14,), 0.5))(
            lambda _: prediction, target
        ).item()

    assert loss(logits_weight=2.0) == pytest.approx(2 * math.log(2), rel=1e-6)
    assert loss(vessel_weight=3.0) == pytest.approx(3 * vessel_loss(prediction["vessels"], vessels).item(), rel=1e-6)
    found = sac_loss(prediction["sac"], sac, 1.0, SAC_CELLS).item()
    where = prediction["vessels"][0, 1:, 1, 1, 1:3].log_softmax(0)[4].neg().sum().item() / (SAC_CELLS * 2)
    assert loss(sac_weight=1.0) == pytest.approx(found, rel=1e-6)
    assert loss(sac_weight=2.0, location_weight=0.5) == pytest.approx(2 * (found + 0.5 * where), rel=1e-5)
