"""How a model is trained, whichever it is; kept in every checkpoint."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal, get_args

PrecisionKind = Literal["auto", "bf16", "fp16", "fp32"]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; every process of a run has the same."""

    epochs: int = 10
    """passes over the training samples; the number is fixed, no epoch is picked by the held-out fold"""
    batch_size: int = 32
    """samples of one optimizer step, over all processes and accumulated parts"""
    accumulate: int = 1
    """parts that a step's samples are seen in, where memory does not hold them at once"""
    optimizer: str = "adamw"
    """an optimizer of timm, by name"""
    lr: float = 1e-4
    """highest learning rate"""
    weight_decay: float = 0.01
    """on weights; biases and norms have none"""
    schedule: str = "cosine"
    """a scheduler of timm, by name, stepped after every optimizer step; or plateau: lower when nothing gets better"""
    plateau_on: Literal["loss", "score"] = "loss"
    """what has to get better, of all epochs or of those evaluated: the mean loss in training, or the score; with the
    score, held-out data have a say in the weights, and the model cannot be evaluated on them any more"""
    plateau_patience: int = 3
    """epochs, or evaluations, that may bring nothing before the learning rate falls"""
    plateau_factor: float = 0.3
    """what it is multiplied with then"""
    warmup_epochs: int = 1
    """epochs in which the learning rate rises"""
    clip_norm: float = 1.0
    """largest norm of the gradients; 0 leaves them"""
    ema_decay: float = 0.999
    """of the exponential moving average of the weights, which is what is evaluated and kept; 0 leaves it out"""
    skip_nan: bool = False
    """leave out steps whose loss or gradients are not finite, and say of which series, instead of ending the run; the
    main process then waits for the device at each step, as with fp16"""
    precision: str = "auto"
    """bf16, fp16, fp32, or auto: on a GPU what it computes natively, on a CPU bf16 where it has that and a short
    measurement at the start shows it to be faster, else fp32; prediction does not go by this"""
    compile: bool = False
    """torch.compile the model"""
    channels_last: bool = True
    """memory layout of images and volumes; faster for convolutions"""
    workers: int = 2
    """processes that prepare batches; 0 prepares them in the training process"""
    seed: int = 0
    """of weights, order and augmentation"""
    evaluate_every: int = 1
    """epochs from one evaluation to the next; the last epoch is always evaluated"""
    log_every: int = 50
    """optimizer steps from one progress line to the next, where the output is not a terminal that shows a bar"""
    tensorboard: bool = False
    """also write TensorBoard events; needs the extra `tracking`"""
    wandb: bool = False
    """also log to Weights & Biases; needs the extra `tracking`"""
    sync: str = ""
    """s3://bucket/prefix to which the run's files are copied after each epoch, and from which resume fetches them;
    needs the extra `s3`"""

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting."""
        for names, (fits, words) in _LIMITS.items():
            for name in names.split():
                if not fits(getattr(self, name)):  # a NaN fits nowhere
                    raise ValueError(f"training.{name}: expected {words}, found {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"training.precision: expected one of {', '.join(PRECISIONS)}, found {self.precision}")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How trained models are run over many windows; it changes no result, but for rounding."""

    batch_size: int = 32
    """windows that are encoded at a time"""
    workers: int = max(1, (os.cpu_count() or 2) - 1)
    """processes that read ahead of the encoder; 0 reads in this one"""
    precision: PrecisionKind = "auto"
    """auto: float32 on a CPU, so that every processor gives the same, and what a GPU computes natively; or bf16, fp16,
    fp32"""


PRECISIONS = get_args(PrecisionKind)
_LIMITS = {
    "epochs batch_size accumulate evaluate_every log_every": (lambda value: value >= 1, "1 or more"),
    "warmup_epochs workers plateau_patience seed": (lambda value: value >= 0, "0 or more"),
    "lr": (lambda value: 0 < value < math.inf, "a number above 0"),
    "weight_decay clip_norm": (lambda value: 0 <= value < math.inf, "a number from 0 on"),
    "ema_decay": (lambda value: 0 <= value < 1, "a number from 0 on, below 1"),
    "plateau_factor": (lambda value: 0 < value < 1, "a number between 0 and 1"),
}
