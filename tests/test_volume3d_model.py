"""The network: it is torchvision's r3d_18, and flags change what they say and nothing else."""

import copy
import math

import pytest
import torch
from torch import nn
from torchvision.models.video import r3d_18

from volume3d.activations import Activations, statistics
from volume3d.config import ActivationsConfig, LossConfig, NetConfig
from volume3d.model import Volume3dNet
from volume3d.patient_inputs import PATIENT_KEYS
from volume3d.run import Volume3dLoss
from volume3d.weights import load_backbone_weights

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
    said = load_backbone_weights(model.backbone, tmp_path / "r3d.pth")
    n_tensors = len(model.backbone.state_dict())
    assert said == f"{n_tensors} of {n_tensors} tensors from {tmp_path / 'r3d.pth'}"
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
    load_backbone_weights(other.backbone, tmp_path / "own.pth")
    assert torch.equal(other.backbone.stem[0].weight, model.backbone.stem[0].weight)
    with pytest.raises(ValueError, match=r"own.pth: expected weights of r3d_18, stem.0.weight \(32, 1, 3, 7, 7\)"):
        load_backbone_weights(net(width=32).backbone, tmp_path / "own.pth")
    with pytest.raises(ValueError, match="nowhere.pth: no such file"):
        load_backbone_weights(model.backbone, tmp_path / "nowhere.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ValueError, match="text.pth: expected tensors by name"):
        load_backbone_weights(model.backbone, tmp_path / "text.pth")


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_checkpointing_changes_neither_outputs_nor_gradients_nor_statistics(norm):
    plain = net(norm=norm)
    kept = net(norm=norm, checkpointing=True)
    kept.load_state_dict(plain.state_dict())
    inputs = [batch(), batch()]
    for model in (plain, kept):
        model.train()
        model.answers = [model(one) for one in inputs]
        sum(answer.square().sum() for answer in model.answers).backward()
    assert all(torch.equal(a, b) for a, b in zip(plain.answers, kept.answers, strict=True))
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
    answer = model(batch())
    assert len(calls) == 1
    answer.sum().backward()
    assert len(calls) == 3  # of the block, and of the half of the block in it
    calls.clear()
    model.eval()(batch()).sum().backward()
    assert len(calls) == 1


def test_group_norms_stand_in_for_all_batch_norms_and_do_not_know_the_batch():
    model = net(norm="group")
    kinds = [type(module) for module in model.modules()]
    assert nn.BatchNorm3d not in kinds and kinds.count(nn.GroupNorm) == 20  # stem, 16 in blocks, 3 beside them
    model.train()
    two = batch(2)
    one = {key: tensor[:1] for key, tensor in two.items()}
    with torch.no_grad():
        assert torch.allclose(model(two)[:1], model(one), atol=1e-5)


def test_the_patient_counts_only_where_that_is_asked_for():
    known = batch() | {"age": torch.tensor([1.0, 2.0]), "age_known": torch.ones(2)}
    with torch.no_grad():
        for patient in (False, True):
            model = net(patient=patient).eval()
            image = batch()["image"]
            answers = [model(one | {"image": image}) for one in (batch(), known)]
            assert torch.equal(*answers) != patient


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
        assert model(batch(1))[0].tolist() == [expected if i == 3 else 0.0 for i in range(14)]


def test_training_starts_from_the_prevalences():
    model = net()
    nn.init.zeros_(model.head.weight)
    prevalence = torch.linspace(0.05, 0.5, 14)
    model.start_from(prevalence)
    with torch.no_grad():
        assert torch.allclose(model(batch()).sigmoid(), prevalence.expand(2, 14), atol=1e-6)


def test_the_loss_by_hand():
    """Logits of 0 cost ln 2 a label; positives of label 3 would count 9 times, capped at 4; label 5 nobody knows."""
    prevalence = torch.full((14,), 0.5)
    prevalence[3] = 0.1
    loss = Volume3dLoss(LossConfig(present_share=0.75, pos_weight_cap=4.0), prevalence)
    labels = torch.zeros(2, 14)
    labels[0, [3, 13]] = 1
    labels[0, 5] = torch.nan
    found = loss(lambda batch: torch.zeros(2, 14), {"labels14": labels})
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
            model(inputs).sum().backward()
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
