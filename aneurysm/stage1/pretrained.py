"""Stage 1's checkpoint of a pretraining as a file of weights."""

from __future__ import annotations

from pathlib import Path

from aneurysm.config import from_saved
from aneurysm.stage1.config import Stage1Config
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.norms import unfolded
from aneurysm.training.checkpoint import load_trained
from aneurysm.training.pretrained import card_of, write_pretrained

WHAT = "stage 1, pretrained on synthetic heads that were made as it went and never seen twice"
LICENCE = "MIT, as the code; ImageNet weights that they began with: Apache-2.0"


def export_pretrained(checkpoint: Path, path: Path, made_by: str) -> None:
    """Writes <path>.safetensors and <path>.json of a checkpoint of pretrain.py."""
    saved = load_trained(checkpoint, "stage1")
    config = from_saved(Stage1Config, saved["config"]["stage1"])
    model = Stage1Net(config.encoder, config.heads, config.input.image_size, n_slices=config.input.n_slices)
    write_pretrained(path, unfolded(model, saved["weights"]), card_of(saved, WHAT, made_by, LICENCE))
