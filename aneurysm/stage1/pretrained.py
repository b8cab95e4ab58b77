"""Stage 1's checkpoint of a pretraining as a file of weights, and back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from aneurysm.cache.config import CacheSettings
from aneurysm.config import from_saved
from aneurysm.labels import LABELS
from aneurysm.package import code_version
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.norms import unfolded
from aneurysm.training.checkpoint import load_trained, save_state
from aneurysm.training.pretrained import card_of, read_pretrained, write_pretrained

WHAT = "stage 1, pretrained on synthetic heads that were made as it went and never seen twice"
LICENCE = "MIT, as the code; ImageNet weights that they began with: Apache-2.0"


def export_pretrained(checkpoint: Path, path: Path, made_by: str) -> None:
    """Writes <path>.safetensors and <path>.json of a checkpoint of pretrain.py."""
    saved = load_trained(checkpoint, "stage1")
    config = from_saved(Stage1Config, saved["config"]["stage1"])
    model = Stage1Net(config.encoder, config.heads, config.input.image_size, n_slices=config.input.n_slices)
    write_pretrained(path, unfolded(model, saved["weights"]), card_of(saved, WHAT, made_by, LICENCE))


def as_checkpoint(path: Path, checkpoint: Path) -> None:
    """Writes pretrained weights as the checkpoint of a model of all series, as later steps read it.

    Raises ValueError naming the file where it holds no pretrained weights.
    """
    saved = read_pretrained(path)
    about = {"cache": asdict(CacheSettings())} | saved["config"] | {"fold": None}
    content = {"weights": saved["weights"], "config": about, "labels": list(LABELS), "scores": {}, "epoch": 0}
    save_state(checkpoint, content | {"commit": code_version()})
