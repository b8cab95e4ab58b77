"""Saves and loads weights with their configuration: checkpoints (.pth) and pretrained weights (.safetensors)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from aneurysm.labels import LABELS
from aneurysm.package import code_version
from aneurysm.paths import atomic_write

Model = TypeVar("Model")
SCRIPTS = {"stage1": "train_stage1.py", "stage2": "train_stage2.py", "volume3d": "volume3d.train"}


def save_checkpoint(path: Path, model: nn.Module, config: dict[str, Any], scores: dict[str, float], epoch: int) -> None:
    """Writes weights, config, labels, scores, epoch and the commit or version of the code, atomically."""
    content = {
        "weights": model.state_dict(),
        "config": config,
        "labels": list(LABELS),
        "scores": scores,
        "epoch": epoch,
        "commit": code_version(),
    }
    save_state(path, content)


def save_state(path: Path, content: dict[str, Any]) -> None:
    """Writes a dict of tensors, numbers, strings, lists and dicts with torch.save, atomically."""
    with atomic_write(path) as beside:
        torch.save(content, beside)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The dict written by save_checkpoint or save_state, loaded with weights_only=True.

    Raises ValueError naming the file if it is missing, damaged, or has other labels.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
        line = str(error).split("\n", 1)[0]
        raise ValueError(f"{path}: expected a checkpoint, found what cannot be read as one ({line})") from error
    if "labels" in content and content["labels"] != list(LABELS):
        raise ValueError(f"{path}: expected the labels {LABELS}, found {content['labels']}")
    return content


def load_trained(path: Path, part: str, unseen: int | str | None = None) -> dict[str, Any]:
    """`weights` and `config` of a trained model, from a checkpoint or from pretrained weights (.safetensors).

    `part` is one of SCRIPTS. `unseen` is the fold, or the checksum of the split, that must have been held out; None
    skips this check. Raises ValueError naming the file if it is missing, holds another kind of model, or held out
    another fold or split.
    """
    saved = read_pretrained(path) if path.suffix == ".safetensors" else load_checkpoint(path)
    about = saved.get("config", {})
    if part not in about:
        raise ValueError(f"{path}: expected a checkpoint of {SCRIPTS[part]}, found {', '.join(about or saved)}")
    held_out = about.get("held_out", about.get("fold"))
    if unseen is not None and held_out != unseen:
        raise ValueError(
            f"{path}: expected a model that has not seen fold {unseen}, found one that has not seen {held_out}"
        )
    return saved


def load_model(path: Path, part: str, build: Callable[..., Model], unseen: int | str | None = None) -> Model:
    """`build(config, weights)` with the output of load_trained; ValueError naming the file if either fails."""
    saved = load_trained(path, part, unseen)
    try:
        return build(saved["config"], saved["weights"])
    except (ValueError, RuntimeError) as error:  # another version of this code, or of timm
        raise ValueError(f"{path}: {error}") from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_pretrained(path: Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Writes <path>.safetensors, floating-point tensors as float16, and <path>.json, a model card that has `config`."""
    halves = {n: (t.half() if t.is_floating_point() else t).contiguous() for n, t in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path.with_suffix(".safetensors")) as beside:
        beside.write_bytes(save(halves))
    with atomic_write(path.with_suffix(".json")) as beside:
        beside.write_text(json.dumps(card, indent=1) + "\n")


def card_of(saved: dict[str, Any], what: str, made_by: str, licence: str) -> dict[str, Any]:
    """The model card of a pretraining checkpoint; `made_by` is the command that trained it."""
    about = saved["config"]
    return {
        "what": what, "made_by": made_by, "commit": saved["commit"], "licence": licence,
        "windows": about["n_windows"], "phantom_seed": about["seed"], "scores": saved["scores"], "config": about,
    }  # fmt: skip


def read_pretrained(path: Path) -> dict[str, Any]:
    """`weights` (float32) and `config` from files of write_pretrained.

    Raises ValueError naming the file if it or its card is missing or damaged.
    """
    try:
        weights = load_file(path)
        card = json.loads(path.with_suffix(".json").read_text())
        return {
            "weights": {name: t.float() if t.dtype == torch.float16 else t for name, t in weights.items()},
            "config": card["config"],
        }
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{path}: expected pretrained weights and their card beside them, found {error}") from error
