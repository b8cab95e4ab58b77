"""Seconds per series from DICOM to the 14 probabilities, by step, and how busy the encoder is.

    PYTHONPATH=. python benchmarks/end_to_end.py --workers 1
    PYTHONPATH=. python benchmarks/end_to_end.py --encoder convnext_base.dinov3_lvd1689m --image_size 448 --workers 8

Makes synthetic series of 512 x 512 pixels in a temporary folder, removed at the end: a CTA of 330 slices and a T2 of
30, each RLE and uncompressed. The models have random weights, which take the same time. The first series is not timed,
because nothing can be decoded ahead of it. The goal is an encoder that is busy for 80 % of the time.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from aneurysm.cache.config import VIEWS, CacheSettings
from aneurysm.config import run_script
from aneurysm.inference.evaluate import times_text
from aneurysm.inference.models import Pair, Trained
from aneurysm.inference.predict import Predictor
from aneurysm.labels import LABELS
from aneurysm.stage1.config import InputConfig, Stage1Config
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage2.config import Stage2Config
from aneurysm.stage2.model import Stage2Net
from aneurysm.training.distributed import init_distributed
from benchmarks.preprocess import write_series

SYNTAXES = {"RLE": RLELossless, "uncompressed": ExplicitVRLittleEndian}
KINDS = {"CTA": (330, "CT", 0.6), "T2": (30, "MR", 5.0)}  # slices, modality, slice spacing in mm


@dataclass(frozen=True)
class BenchmarkConfig:
    encoder: str = "tf_efficientnet_lite0"
    """a model of timm, by name"""
    image_size: int = 288
    """rows and columns of the encoder's input"""
    slice_spacing_mm: float = 1.5
    """distance of the windows"""
    pairs: int = 1
    """models that are averaged"""
    n_series: int = 3
    """series of each kind that are timed"""
    workers: int = 1
    """processes that decode ahead of the encoder"""
    batch_size: int = 32
    """windows that are encoded at a time"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: BenchmarkConfig) -> None:
    predictor = Predictor(
        [random_pair(config)] * config.pairs, init_distributed(config.device).device, True, config.batch_size
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind, (n_slices, modality, gap_mm) in KINDS.items():
            for name, syntax in SYNTAXES.items():
                series = Path(folder) / f"{kind} {name}"
                write_series(series, n_slices, syntax, modality, gap_mm)
                print(f"{kind} of {n_slices} slices, {name}: {measured(predictor, series, config)}", flush=True)


def measured(predictor: Predictor, series: Path, config: BenchmarkConfig) -> str:
    """Times of the series after the first, as text, or the first failure."""
    predictions = predictor.predict_all([series] * (1 + config.n_series), config.workers)
    next(predictions)
    start = time.perf_counter()
    timed = list(predictions)
    failed = [prediction.failure for prediction in timed if prediction.failure]
    return failed[0] if failed else times_text(timed, time.perf_counter() - start)


def random_pair(config: BenchmarkConfig) -> Pair:
    """A pair as from two checkpoints, but with random weights."""
    torch.manual_seed(0)
    stage1, stage2 = Stage1Config(config.encoder, InputConfig(image_size=config.image_size)), Stage2Config()
    encoder = Stage1Net(config.encoder, stage1.heads, config.image_size)
    sequence = Stage2Net(stage2.net, stage2.tokens.inputs, encoder.n_features)
    about1 = {"stage1": asdict(stage1), "cache": asdict(CacheSettings())}
    about2 = {
        "stage2": asdict(stage2),
        "n_features": encoder.n_features,
        "sampling": {"slice_spacing_mm": config.slice_spacing_mm, "views": VIEWS},
        "prevalence": [0.5] * len(LABELS),
    }
    parts = ((about1, encoder), (about2, sequence))
    trained = (Trained(about, net.state_dict(), Path("random weights")) for about, net in parts)
    return Pair(config.encoder, 0, *trained)


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
