"""Checkpoints: weights with everything needed to know and to use them; read back with weights_only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from aneurysm.labels import LABELS
from aneurysm.package import code_version
from aneurysm.paths import atomic_write


def save_checkpoint(path: Path, model: nn.Module, config: dict[str, Any], scores: dict[str, float], epoch: int) -> None:
    """Weights, config, labels, scores, epoch and the commit or version of the code; whole or not at all."""
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
    """Tensors, numbers, texts, lists and dicts; whole or not at all."""
    with atomic_write(path) as beside:
        torch.save(content, beside)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What save_checkpoint or save_state wrote; nothing but tensors and plain values is unpickled.

    Raises ValueError naming the file where it is missing, damaged, or made with other labels.
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


def load_trained(path: Path, part: str, unseen: int | None = None) -> dict[str, Any]:
    """The checkpoint of a model of that part, stage1 or stage2, which its config tells with the fold that is held out.

    Raises ValueError naming the file where it is missing, holds another model, or one that has seen fold `unseen`.
    """
    saved = load_checkpoint(path)
    about = saved.get("config", {})
    if part not in about:
        raise ValueError(f"{path}: expected a checkpoint of train_{part}.py, found {', '.join(about or saved)}")
    if unseen is not None and about["fold"] != unseen:
        raise ValueError(
            f"{path}: expected a model that has not seen fold {unseen}, found one without fold {about['fold']}"
        )
    return saved


def file_hash(path: Path) -> str:
    """SHA-256 of a file: which weights these are."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
