"""The file of pretrained weights, in float16, and its card beside it: what they are and what they were made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from aneurysm.config import from_saved
from aneurysm.paths import written_whole
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.norms import unfolded
from aneurysm.training.checkpoint import load_trained

LICENCE = "MIT, as the code; ImageNet weights that they began with: Apache-2.0"


def export_pretrained(checkpoint: Path, path: Path, made_by: str) -> None:
    """Writes <path>.safetensors and <path>.json of a checkpoint of pretrain.py."""
    saved = load_trained(checkpoint, "stage1")
    about = saved["config"]
    config = from_saved(Stage1Config, about["stage1"])
    model = Stage1Net(config.encoder, config.heads, config.input.image_size, n_slices=config.input.n_slices)
    halves = {n: t.half() if t.is_floating_point() else t for n, t in unfolded(model, saved["weights"]).items()}
    card = {
        "what": "stage 1, pretrained on synthetic heads that were made as it went and never seen twice",
        "made_by": made_by, "commit": saved["commit"], "licence": LICENCE,
        "windows": about["n_windows"], "phantom_seed": about["seed"], "scores": saved["scores"], "config": about,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path.with_suffix(".safetensors")) as beside:
        beside.write_bytes(save({name: t.contiguous() for name, t in halves.items()}))
    with written_whole(path.with_suffix(".json")) as beside:
        beside.write_text(json.dumps(card, indent=1) + "\n")


def read_pretrained(path: Path) -> dict[str, Any]:
    """`weights` (float32) and `config` of what export_pretrained wrote; ValueError naming the file where it is none."""
    try:
        weights = load_file(path)
        card = json.loads(path.with_suffix(".json").read_text())
        return {
            "weights": {name: t.float() if t.dtype == torch.float16 else t for name, t in weights.items()},
            "config": card["config"],
        }
    except (OSError, ValueError, KeyError) as error:  # of safetensors, too
        raise ValueError(f"{path}: expected pretrained weights and their card beside them, found {error}") from error
