"""Initial weights for training: the project's own, or a file, such as torchvision's r3d_18 of Kinetics-400."""

from __future__ import annotations

from pathlib import Path

from timm.models import load_state_dict
from torch import Tensor, nn

from aneurysm.package import pretrained_folder

PRETRAINED = "pretrained"  # on phantoms; installed with the project
STEM = "stem.0.weight"
BACKBONE = "backbone."


def weights_path(given: str) -> Path:
    """The path of the weights: the project's own for `pretrained`, otherwise `given`."""
    return pretrained_folder() / "volume3d.safetensors" if given == PRETRAINED else Path(given)


def load_weights(model: nn.Module, path: Path) -> str:
    """Loads the tensors of a file (torch or safetensors) that fit a Volume3dNet by name and shape; returns a summary.

    The input channels of the first convolution are summed, which is equivalent to repeating a grey image in each of
    them. Heads of other tasks are skipped. Raises ValueError naming the file if the first convolution is missing or
    does not fit.
    """
    tensors = _read(path)
    stem = BACKBONE + STEM
    if stem in tensors and tensors[stem].ndim == 5:
        tensors[stem] = tensors[stem].sum(dim=1, keepdim=True)
    own = model.state_dict()
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    if stem not in fitting:
        found = ", ".join(f"{name} {tuple(t.shape)}" for name, t in list(tensors.items())[:2]) or "nothing"
        raise ValueError(f"{path}: expected weights of r3d_18, {STEM} {tuple(own[stem].shape)}, found {found}")
    model.load_state_dict(fitting, strict=False)
    missing = [name for name in own if name not in fitting]
    return f"{len(fitting)} of {len(own)} tensors from {path}" + (f"; not there: {missing[0]}, ..." if missing else "")


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names in a Volume3dNet."""
    if not path.exists():
        raise ValueError(f"weights {path}: no such file")
    try:
        content = load_state_dict(str(path), use_ema=True, weights_only=True)
    except Exception as error:  # torch, safetensors and pickle raise many kinds of errors
        raise ValueError(f"{path}: expected tensors by name, found {error}") from error
    tensors = content.get("weights", content)
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items() if isinstance(t, Tensor)}
    if any(name.startswith(BACKBONE) for name in tensors):
        return tensors
    return {BACKBONE + name: t for name, t in tensors.items()}
