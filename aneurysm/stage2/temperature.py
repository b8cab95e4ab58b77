"""The temperature of an encoder's stage 2, by which log-odds are divided to calibrate the probabilities.

eval_stage2.py --temperature fits it to the held-out predictions of all folds and saves it with the checksums of their
models; eval_end_to_end.py --export includes it for the same models only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aneurysm.paths import ModelPaths, atomic_write
from aneurysm.training.checkpoint import file_hash

NEVER, ALWAYS = 1e-7, 1 - 1e-7  # probabilities are clipped to this range


@dataclass(frozen=True)
class Temperature:
    """The divisor of log-odds, 1 without calibration, and a description of its origin."""

    value: float
    text: str


def log_odds(predicted: np.ndarray) -> np.ndarray:
    """Log-odds of probabilities, clipped to be finite for 0 and 1."""
    clipped = np.clip(np.asarray(predicted, float), NEVER, ALWAYS)
    return np.log(clipped) - np.log1p(-clipped)


def at_temperature(predicted: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """`predicted` (probabilities) with their log-odds divided by the temperature."""
    return 1 / (1 + np.exp(-log_odds(predicted) / temperature))


def write_temperature(model_paths: ModelPaths, folds: Sequence[int], value: float) -> None:
    """Saves the temperature fitted to the predictions of these folds' models, with their SHA-256."""
    kept = {"temperature": value, "checkpoints": {str(fold): _hashes(model_paths, fold) for fold in folds}}
    with atomic_write(model_paths.temperature_json) as beside:
        beside.write_text(json.dumps(kept, indent=1))


def read_temperature(model_paths: ModelPaths, folds: Sequence[int | None]) -> Temperature:
    """The saved temperature for the models of these folds; 1 if there is none or it was fitted to other models.

    Raises ValueError naming the file if it is damaged.
    """
    path = model_paths.temperature_json
    if not path.exists():
        return Temperature(1.0, "not calibrated; eval_stage2.py --temperature fits a temperature")
    try:
        kept = json.loads(path.read_text())
        value, known = float(kept["temperature"]), dict(kept["checkpoints"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected what eval_stage2.py --temperature writes; {error}") from error
    others = [str(fold) for fold in folds if known.get(str(fold)) != _hashes(model_paths, fold)]
    if others:
        names = ", ".join(f"fold-{'none' if fold == 'None' else fold}" for fold in others)
        return Temperature(1.0, f"not calibrated: {path.name} was fitted to other models than {names}")
    return Temperature(value, f"calibrated at temperature {value:.3f}")


def _hashes(model_paths: ModelPaths, fold: int | None) -> list[str]:
    """SHA-256 of the checkpoints of stage 1 and stage 2 that exist."""
    return [file_hash(path) for path in (model_paths.stage1(fold), model_paths.stage2(fold) / "last.pth")
            if path.exists()]  # fmt: skip
