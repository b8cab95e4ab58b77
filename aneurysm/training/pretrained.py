"""The file of pretrained weights, in float16, and its card beside it: what they are and what they were made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from aneurysm.paths import atomic_write


def write_pretrained(path: Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Writes <path>.safetensors, floating-point numbers in float16, and the card, <path>.json, with `config` in it."""
    halves = {n: (t.half() if t.is_floating_point() else t).contiguous() for n, t in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path.with_suffix(".safetensors")) as beside:
        beside.write_bytes(save(halves))
    with atomic_write(path.with_suffix(".json")) as beside:
        beside.write_text(json.dumps(card, indent=1) + "\n")


def card_of(saved: dict[str, Any], what: str, made_by: str, licence: str) -> dict[str, Any]:
    """The card of a checkpoint of a pretraining, made by a command."""
    about = saved["config"]
    return {
        "what": what, "made_by": made_by, "commit": saved["commit"], "licence": licence,
        "windows": about["n_windows"], "phantom_seed": about["seed"], "scores": saved["scores"], "config": about,
    }  # fmt: skip


def read_pretrained(path: Path) -> dict[str, Any]:
    """`weights` (float32) and `config` of what write_pretrained wrote; ValueError naming the file where it is none."""
    try:
        weights = load_file(path)
        card = json.loads(path.with_suffix(".json").read_text())
        return {
            "weights": {name: t.float() if t.dtype == torch.float16 else t for name, t in weights.items()},
            "config": card["config"],
        }
    except (OSError, ValueError, KeyError) as error:  # of safetensors, too
        raise ValueError(f"{path}: expected pretrained weights and their card beside them, found {error}") from error
