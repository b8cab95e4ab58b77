"""Pretrained weights of r3d_18 from a file, such as torchvision's of Kinetics-400."""

from __future__ import annotations

from pathlib import Path

import torch
from timm.models import load_state_dict
from torch import Tensor, nn

STEM = "stem.0.weight"


def load_backbone_weights(backbone: nn.Module, path: Path) -> str:
    """Fills the backbone from a file of tensors by name, torch or safetensors, and says what was done.

    A first convolution over several channels is summed over them: a grey image shown in each of them would be answered
    alike. Heads of other tasks are left out. Raises ValueError naming the file where nothing in it fits.
    """
    tensors = _read(path)
    if STEM in tensors and tensors[STEM].ndim == 5:
        tensors[STEM] = tensors[STEM].sum(dim=1, keepdim=True)
    own = backbone.state_dict()
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    if STEM not in fitting:
        found = ", ".join(f"{name} {tuple(t.shape)}" for name, t in list(tensors.items())[:2]) or "nothing"
        raise ValueError(f"{path}: expected weights of r3d_18, {STEM} {tuple(own[STEM].shape)}, found {found}")
    backbone.load_state_dict(fitting, strict=False)
    missing = [name for name in own if name not in fitting]
    return f"{len(fitting)} of {len(own)} tensors from {path}" + (f"; not there: {missing[0]}, ..." if missing else "")


def _read(path: Path) -> dict[str, Tensor]:
    """Of a checkpoint of this project, its backbone's."""
    if not path.exists():
        raise ValueError(f"weights {path}: no such file")
    try:
        content = load_state_dict(str(path), use_ema=True, weights_only=True)
    except Exception as error:  # torch, safetensors and pickle have many of their own
        raise ValueError(f"{path}: expected tensors by name, found {error}") from error
    tensors = content.get("weights", content)
    tensors = {name: t for name, t in tensors.items() if isinstance(t, torch.Tensor)}
    own = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    return own or tensors
