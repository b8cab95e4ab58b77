"""Folds batch norms with fixed statistics into the preceding convolutions: same outputs, a quarter faster."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

LEAST_SCALE = 1e-4  # norms with a smaller channel scale are not folded: unfolding divides by it
FROZEN = ("weight", "running_mean", "running_var")  # constants of a norm, needed for unfolding


class FoldedNorm(nn.Module):
    """Replaces a folded norm: applies its activation, and stores its constants for unfolding."""

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__()
        for name in FROZEN:
            self.register_buffer(name, getattr(norm, name).detach().clone())
        self.activation = getattr(norm, "act", nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        return self.activation(images)


def fold_norms(model: nn.Module, example: Tensor) -> None:
    """Folds every batch norm that directly follows a convolution without bias, in place.

    All are undone if model(example), a tensor, changes by more than about 0.1 %; `example` (1, channels, rows,
    columns). Only for norms that are not trained again.
    """
    training, before = model.training, {}
    with torch.no_grad():
        expected = model.eval()(example)
        for conv_name, norm_name in conv_norm_pairs(model):
            conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
            if _scale(norm.weight, norm.running_var, norm.eps).abs().min() < LEAST_SCALE:
                continue
            before[conv_name], before[norm_name] = (conv.weight, conv.bias), norm
            fused = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            learns = conv.weight.requires_grad
            conv.weight, conv.bias = (nn.Parameter(p.detach(), requires_grad=learns) for p in fused)
            model.set_submodule(norm_name, FoldedNorm(norm))
        if not torch.allclose(model(example), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            for name, was in before.items():
                if isinstance(was, tuple):
                    conv = model.get_submodule(name)
                    conv.weight, conv.bias = was
                else:
                    model.set_submodule(name, was)
    model.train(training)


def unfolded(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict `tensors`, with or without folded norms, in the form for `model`, which has no folded norms."""
    made = dict(tensors)
    for conv, norm in conv_norm_pairs(model):
        if f"{norm}.bias" in made or any(f"{name}" not in made for name in (f"{conv}.bias", f"{norm}.weight")):
            continue
        scale = _scale(*(made[f"{norm}.{name}"] for name in ("weight", "running_var")), model.get_submodule(norm).eps)
        made[f"{norm}.bias"] = made.pop(f"{conv}.bias") + made[f"{norm}.running_mean"] * scale
        made[f"{conv}.weight"] = made[f"{conv}.weight"] / scale[:, None, None, None]
        made[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    return made


def conv_norm_pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names (convolution, norm) of convolutions without bias directly followed by a batch norm in the same module."""
    pairs = []
    for parent_name, parent in model.named_modules():
        children = [(name, own) for name, own in parent.named_children() if type(own) is not nn.Identity]
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            fits = isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.affine
            if fits and norm.num_features == conv.out_channels and conv.bias is None:
                prefix = f"{parent_name}." if parent_name else ""
                pairs.append((prefix + conv_name, prefix + norm_name))
    return pairs


def _scale(weight: Tensor, variance: Tensor, eps: float) -> Tensor:
    return weight / torch.sqrt(variance + eps)
