"""A bundle: one folder with everything inference needs: weights as safetensors, and card.json, which describes them.

The card holds

    format    version of this layout
    labels    the 14, in order
    software  the commit (of an installed package, its version), torch and timm that the bundle was made with
    note      a note to users of the bundle; may be empty
    pairs     encoder, fold (null: trained on all series), temperature, and for stage1 and stage2: file, sha256, and
              `about` from the checkpoint (configuration, cache settings, sampling, training prevalences)
    calibration  optional: scale and shift of the log-odds, and the number of series that they were fitted on
    volume3d  optional, for the second system: weight of its log-odds; file, sha256 and `about` of each of its models
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aneurysm.inference.models import Pair, Trained
from aneurysm.inference.platt import Platt
from aneurysm.inference.second_system import SecondSystem
from aneurysm.labels import LABELS
from aneurysm.package import code_version
from aneurysm.paths import atomic_write

CARD = "card.json"
FORMAT = 1
STAGES = ("stage1", "stage2")


def write_bundle(folder: Path, pairs: Iterable[Pair], note: str = "", second: SecondSystem | None = None) -> list[Path]:
    """Writes the pairs and the second system to a folder, atomically; returns its files.

    Tensors that float16 holds without loss, such as pretrained ones, are stored as float16. Raises ValueError naming
    the folder if it contains anything but a bundle.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / CARD).exists():
        raise ValueError(f"{folder}: expected a bundle or nothing, found other files")
    software = {"commit": code_version(), "torch": torch.__version__, "timm": timm.__version__}
    card = {"format": FORMAT, "labels": list(LABELS), "software": software, "note": note, "pairs": []}
    with atomic_write(folder.absolute()) as beside:
        beside.mkdir()
        for number, pair in enumerate(pairs):
            described = {"encoder": pair.encoder, "fold": pair.fold, "temperature": pair.temperature}
            for stage in STAGES:
                described[stage] = _pack(beside, f"{number:02d}_{stage}.safetensors", getattr(pair, stage))
            card["pairs"].append(described)
        if second is not None:
            models = [
                _pack(beside, f"{number:02d}_volume3d.safetensors", one) for number, one in enumerate(second.trained)
            ]
            card["volume3d"] = {"weight": second.weight, "models": models}
        (beside / CARD).write_text(json.dumps(card, indent=1))
    return sorted(folder.iterdir())


def read_bundle(folder: Path) -> list[Pair]:
    """The pairs of a bundle; ValueError naming a file that is missing, damaged, or not as the card describes it."""
    card = _read_card(folder / CARD)
    return [
        Pair(
            row["encoder"], row["fold"], *(_unpack(folder, row[stage]) for stage in STAGES), row.get("temperature", 1.0)
        )
        for row in card["pairs"]
    ]


def read_second(folder: Path) -> SecondSystem | None:
    """The second system of a bundle, None if it has none; ValueError as read_bundle."""
    described = _read_card(folder / CARD).get("volume3d")
    if described is None:
        return None
    return SecondSystem(tuple(_unpack(folder, row) for row in described["models"]), described["weight"])


def read_calibration(folder: Path) -> Platt | None:
    """The calibration of a bundle, None if it has none; ValueError as read_bundle."""
    described = _read_card(folder / CARD).get("calibration")
    if described is None:
        return None
    return Platt(tuple(described["present"]), tuple(described["locations"]), described["n_series"])


def write_calibration(folder: Path, calibration: Platt) -> None:
    """Writes the calibration into the card of a bundle; ValueError as read_bundle."""
    card = _read_card(folder / CARD) | {"calibration": asdict(calibration)}
    with atomic_write(folder / CARD) as beside:
        beside.write_text(json.dumps(card, indent=1))


def bundle_identity(folder: Path) -> dict[str, str]:
    """What identifies a bundle: `sha256` of its card (which holds the checksums of the other files), the `commit` that
    made it, its `calibration` in words, and its `note`. Raises ValueError as read_bundle."""
    card = _read_card(folder / CARD)
    temperatures = sorted({row.get("temperature", 1.0) for row in card["pairs"]} - {1.0})
    at = ", ".join(f"{temperature:.3f}" for temperature in temperatures)
    calibration = f"calibrated on held-out series, temperature {at}" if at else "not calibrated"
    if card.get("calibration"):
        calibration = f"calibrated on {card['calibration']['n_series']} series that no model had seen"
    return {
        "sha256": _sha256(folder / CARD), "commit": str(card["software"]["commit"]), "calibration": calibration,
        "note": card.get("note", ""),
    }  # fmt: skip


def _pack(folder: Path, name: str, trained: Trained) -> dict[str, Any]:
    weights = {key: _smallest(tensor.detach().cpu()).contiguous().clone() for key, tensor in trained.weights.items()}
    save_file(weights, folder / name)
    return {"file": name, "sha256": _sha256(folder / name), "about": trained.about}


def _smallest(tensor: Tensor) -> Tensor:
    """As float16 if that loses nothing."""
    half = tensor.half()
    return half if tensor.dtype == torch.float32 and torch.equal(half.float(), tensor) else tensor


def _unpack(folder: Path, row: dict[str, Any]) -> Trained:
    path = folder / row["file"]
    if not path.exists():
        raise ValueError(f"{path}: not there, although {CARD} names it")
    found = _sha256(path)
    if found != row["sha256"]:
        raise ValueError(f"{path}: expected the SHA-256 {row['sha256']}, found {found}: the file is damaged or another")
    try:
        weights = load_file(path)
        return Trained(
            row["about"], {name: t.float() if t.dtype == torch.float16 else t for name, t in weights.items()}, path
        )
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text())
        found, labels = card["format"], card["labels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected the card of a bundle, from eval_end_to_end.py --export; {error}") from error
    if found != FORMAT or labels != list(LABELS):
        raise ValueError(f"{path}: expected format {FORMAT} and the labels {LABELS}, found {found} and {labels}")
    return card


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
