"""Training settings that all models share; saved in every checkpoint."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal, get_args

PrecisionKind = Literal["auto", "bf16", "fp16", "fp32"]


@dataclass(frozen=True)
class TrainingConfig:
    """Training settings, identical in all processes of a run."""

    epochs: int = 10
    """number of epochs; the last one is used, none is picked by its score on the held-out fold"""
    batch_size: int = 32
    """samples per optimizer step, over all processes and accumulation steps"""
    accumulate: int = 1
    """gradient accumulation steps, for batches that do not fit into memory"""
    optimizer: str = "adamw"
    """name of a timm optimizer"""
    lr: float = 1e-4
    """peak learning rate"""
    weight_decay: float = 0.01
    """on weights only, not on biases and norms"""
    schedule: str = "cosine"
    """name of a timm scheduler, stepped after every optimizer step; or plateau: reduce when nothing improves"""
    plateau_on: Literal["loss", "score"] = "loss"
    """what plateau watches: the mean training loss, or the score; with the score, the held-out fold influences the
    weights, so the model cannot be evaluated on it any more"""
    plateau_patience: int = 3
    """epochs (or evaluations) without improvement before plateau reduces the learning rate"""
    plateau_factor: float = 0.3
    """factor by which plateau reduces it"""
    warmup_epochs: int = 1
    """warm-up epochs"""
    clip_norm: float = 1.0
    """maximum gradient norm; 0 turns clipping off"""
    ema_decay: float = 0.999
    """decay of the exponential moving average of the weights, which is evaluated and saved; 0 turns it off"""
    skip_nan: bool = False
    """skip steps whose loss or gradients are not finite, naming the series, instead of ending the run; the main process
    then waits for the device at each step, as with fp16"""
    precision: str = "auto"
    """bf16, fp16, fp32, or auto: the native format of the GPU; on a CPU bf16 if it has it and a short measurement at
    the start shows that it is faster, else fp32; does not affect prediction"""
    compile: bool = False
    """torch.compile the model"""
    channels_last: bool = True
    """use the channels-last memory layout, which is faster for convolutions"""
    workers: int = 2
    """data loading processes; 0 loads in the training process"""
    seed: int = 0
    """random seed of initial weights, sample order and augmentation"""
    evaluate_every: int = 1
    """epochs between evaluations; the last one is always evaluated"""
    log_every: int = 50
    """optimizer steps between two progress lines; on a terminal, a progress bar takes their place"""
    tensorboard: bool = False
    """write TensorBoard events; needs the extra `tracking`"""
    wandb: bool = False
    """log to Weights & Biases; needs the extra `tracking`"""
    sync: str = ""
    """s3://bucket/prefix: copy the run's files there after each epoch, and fetch them from there to resume; needs the
    extra `s3`"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the first setting that is out of range."""
        for names, (fits, words) in _LIMITS.items():
            for name in names.split():
                if not fits(getattr(self, name)):  # NaN fails every check
                    raise ValueError(f"training.{name}: expected {words}, found {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"training.precision: expected one of {', '.join(PRECISIONS)}, found {self.precision}")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """Batch size, workers and precision of inference; they change results by rounding only."""

    batch_size: int = 32
    """windows per batch"""
    workers: int = max(1, (os.cpu_count() or 2) - 1)
    """data loading processes; 0 loads in the main process"""
    precision: PrecisionKind = "auto"
    """bf16, fp16, fp32, or auto: the native format of the GPU; float32 on a CPU, so that all processors agree"""


PRECISIONS = get_args(PrecisionKind)
_LIMITS = {
    "epochs batch_size accumulate evaluate_every log_every": (lambda value: value >= 1, "1 or more"),
    "warmup_epochs workers plateau_patience seed": (lambda value: value >= 0, "0 or more"),
    "lr": (lambda value: 0 < value < math.inf, "a number above 0"),
    "weight_decay clip_norm": (lambda value: 0 <= value < math.inf, "a number from 0 on"),
    "ema_decay": (lambda value: 0 <= value < 1, "a number from 0 on, below 1"),
    "plateau_factor": (lambda value: 0 < value < 1, "a number between 0 and 1"),
}
