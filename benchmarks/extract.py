"""Windows per second of extract_features.py, against the encoder's forward pass alone on as many batches.

    python benchmarks/extract.py --data_dir data

Reads npy_sequence/ of a data folder that preprocess_data.py has filled. The weights are random, which takes the same
time. Rounds alternate, because the machine may be shared. The goal is 85 % of the bare forward pass on a CPU, 80 % on
a GPU.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from aneurysm.cache.cache import open_cache
from aneurysm.config import run_script
from aneurysm.stage1.config import InputConfig, Stage1Config
from aneurysm.stage1.extract import Encoder, extract
from aneurysm.stage1.model import Stage1Net
from aneurysm.training.distributed import init_distributed


@dataclass(frozen=True)
class BenchmarkConfig:
    data_dir: Path = Path("data")
    """folder that preprocess_data.py has filled"""
    encoder: str = "tf_efficientnet_lite0"
    """a model of timm, by name"""
    image_size: int = 288
    """rows and columns of the encoder's input"""
    slice_spacing_mm: float = 1.5
    """distance of the slices"""
    n_series: int = 4
    """series of a round"""
    rounds: int = 3
    """rounds"""
    batch_size: int = 32
    """windows that are encoded at a time"""
    workers: int = 1
    """processes that read windows ahead of the encoder"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: BenchmarkConfig) -> None:
    device = init_distributed(config.device).device
    cache = open_cache(config.data_dir)
    settings = Stage1Config(config.encoder, InputConfig(image_size=config.image_size))
    model = Stage1Net(config.encoder, settings.heads, config.image_size).eval().to(device)
    encoder = Encoder(model, settings, device)
    series = cache.series_uids()[: config.n_series]
    images = torch.rand(config.batch_size, 3, config.image_size, config.image_size, device=device)
    bare_pass(model, images, encoder, 2)
    print("windows/s, each in both views\nbare pass   extraction   share")
    for _ in range(config.rounds):
        start = time.perf_counter()
        done = extract(cache, series, encoder, config.slice_spacing_mm, config.batch_size, config.workers)
        n_windows = sum(len(features.slice) for _, features in done)
        extraction = n_windows / (time.perf_counter() - start)
        n_batches = -(-n_windows // config.batch_size)
        bare = n_batches * config.batch_size / bare_pass(model, images, encoder, n_batches)
        print(f"{bare:9.1f}   {extraction:10.1f}   {extraction / bare:5.0%}", flush=True)


@torch.inference_mode()
def bare_pass(model: torch.nn.Module, images: torch.Tensor, encoder: Encoder, n_batches: int) -> float:
    """Seconds for this many batches in both views, without reading or saving anything."""
    images = images.contiguous(memory_format=torch.channels_last)
    start = time.perf_counter()
    for _ in range(n_batches * len(encoder.views)):
        with encoder.precision.autocast():
            logits = model(images)["logits"]
    logits.sum().item()  # on a GPU, wait for the last
    return time.perf_counter() - start


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
