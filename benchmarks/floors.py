"""Each step's time over a lower bound: bytes / disk rate, decoding alone, or operations / matrix rate.

    PYTHONPATH=. python benchmarks/floors.py --data_dir data --folds 5 --threads 1

Reads a folder that create_folds.py has filled, and makes synthetic 512 x 512 series in a temporary folder, removed at
the end. The lower bounds (floors) are measured in the same run, and rounds alternate, because the machine may be
shared. Prints the median, lowest and highest round of each ratio. Models have random weights, which take the same time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pydicom
import torch
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from rle.utils import decode_frame
from torch.utils.data import default_collate

from aneurysm.cache.cache import SLICE_BYTES, open_cache
from aneurysm.cache.config import CacheSettings
from aneurysm.cache.preprocess import preprocess_series
from aneurysm.config import run_script
from aneurysm.folds.tables import read_spots
from aneurysm.inference.predict import Predictor
from aneurysm.stage1.config import InputConfig, Stage1Config
from aneurysm.stage1.dataset import TrainingWindows
from aneurysm.stage1.extract import Encoder, extract
from aneurysm.stage1.losses import Stage1Loss
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage2.config import Stage2Config
from aneurysm.stage2.losses import Stage2Loss
from aneurysm.stage2.model import Stage2Net
from benchmarks.end_to_end import random_pair
from benchmarks.extract import bare_pass
from benchmarks.preprocess import write_series
from benchmarks.rates import CPU, DiskRates, disk_rates, flops_of, matrix_rate, seconds_of

N_SLICES = 120  # slices of the synthetic series


@dataclass(frozen=True)
class BenchmarkConfig:
    data_dir: Path = Path("data")
    """folder that create_folds.py has filled"""
    folds: int = 5
    """number of folds, as given to create_folds.py"""
    encoder: str = "tf_efficientnet_lite0"
    """a model of timm, by name"""
    image_size: int = 288
    """rows and columns of the encoder's input"""
    slice_spacing_mm: float = 1.5
    """distance of the windows along a series"""
    batch_size: int = 16
    """windows of a step"""
    pairs: int = 1
    """models that are averaged end to end"""
    rounds: int = 5
    """rounds"""
    threads: int = 1
    """torch threads"""
    folder: Path = Path(tempfile.gettempdir())
    """where the temporary folder is made: on the disk to be measured"""


@dataclass(frozen=True)
class Measured:
    """Seconds of one piece of work, and of its lower bound, the floor."""

    step: str
    unit: str
    floor: str
    floor_s: float
    taken_s: float


def main(config: BenchmarkConfig) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        disk, rate = disk_rates(Path(folder)), matrix_rate(CPU, torch.float32)
        print(
            f"disk: {disk.write / 1e6:.0f} MB/s written, {disk.read / 1e6:.0f} read, {disk.read_again / 1e6:.0f} read "
            f"from memory; matrix products: {rate / 1e9:.0f} GFLOP/s, {config.threads} threads\n"
        )
        print("| step | of one | floor | floor, ms | taken, ms | ratio, median | lowest to highest |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for rounds in steps(Path(folder), config, disk, rate):
            found = list(islice(rounds, config.rounds))
            ratios = [one.taken_s / one.floor_s for one in found]
            floor, taken = (1e3 * np.median([getattr(one, name) for one in found]) for name in ("floor_s", "taken_s"))
            print(f"| {found[0].step} | {found[0].unit} | {found[0].floor} | {floor:.2f} | {taken:.2f} | "
                  f"{np.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)  # fmt: skip


def steps(folder: Path, config: BenchmarkConfig, disk: DiskRates, rate: float) -> Iterator[Iterator[Measured]]:
    """The rounds of each step, endless."""
    for name, syntax in (("uncompressed", ExplicitVRLittleEndian), ("RLE", RLELossless)):
        yield preprocessing(folder / name, name, syntax, disk)
    yield stage1_input(config, disk)
    yield stage1_step(config, rate)
    yield extraction(config)
    yield stage2_step(rate)
    for name in ("uncompressed", "RLE"):
        yield end_to_end(folder / name / "series" / "a", name, config)


def preprocessing(data_dir: Path, name: str, syntax: str, disk: DiskRates) -> Iterator[Measured]:
    series, settings = data_dir / "series" / "a", CacheSettings(head_mm=0)
    write_series(series, N_SLICES, syntax)
    files = sorted(series.iterdir())
    n_bytes = sum(file.stat().st_size for file in files) / N_SLICES
    disk_s = n_bytes / disk.read_again + SLICE_BYTES / disk.write
    while True:
        decode_s = bare_decoding(files)
        for made in (data_dir / "npy_sequence").glob("*"):
            made.unlink()
        os.sync()
        taken = seconds_of(lambda: (preprocess_series(data_dir, "a", settings, slices=False), os.sync())) / N_SLICES
        floor = "decoder alone" if decode_s > disk_s else "bytes in (from memory) and out"
        yield Measured(f"preprocessing, {name}", "slice", floor, max(disk_s, decode_s), taken)


def bare_decoding(files: list[Path]) -> float:
    """Seconds per slice for the pixels alone: RLE with the decoder that is used, or a copy of the bytes."""
    read = [pydicom.dcmread(file) for file in files]
    if read[0].file_meta.TransferSyntaxUID == RLELossless:
        frames = [next(generate_frames(one.PixelData, number_of_frames=1)) for one in read]
        return seconds_of(lambda: [decode_frame(frame, 512 * 512, 16, "<") for frame in frames]) / len(frames)
    return seconds_of(lambda: [np.frombuffer(one.PixelData, np.int16).copy() for one in read]) / len(read)


def stage1_input(config: BenchmarkConfig, disk: DiskRates) -> Iterator[Measured]:
    cache, spots = open_cache(config.data_dir), read_spots(config.data_dir, config.folds)
    settings = replace(Stage1Config(), input=InputConfig(image_size=config.image_size))
    training, epoch = TrainingWindows(cache, spots, {}, settings), 0
    while True:
        numbers, epoch = range(0, len(training), max(1, len(training) // 60)), epoch + 1
        taken = seconds_of(lambda: [training[(epoch, n)] for n in numbers]) / len(numbers)  # noqa: B023
        yield Measured("stage 1, input", "window", "bytes of 3 slices", 3 * SLICE_BYTES / disk.read_again, taken)


def stage1_step(config: BenchmarkConfig, rate: float) -> Iterator[Measured]:
    settings = replace(Stage1Config(), input=InputConfig(image_size=config.image_size))
    cache, spots = open_cache(config.data_dir), read_spots(config.data_dir, config.folds)
    windows = TrainingWindows(cache, spots, {}, settings)
    batch = default_collate([windows[(0, n)] for n in range(config.batch_size)])
    model = Stage1Net(config.encoder, settings.heads, config.image_size).train().to(memory_format=torch.channels_last)
    loss = Stage1Loss(settings.loss, settings.heads)
    yield from trained("stage 1, step", "window", lambda: loss(model, batch), model, config.batch_size, rate)


def stage2_step(rate: float) -> Iterator[Measured]:
    """A step on series of 120 slices with features of an encoder with 1024 channels."""
    n, n_slices, config = 16, 120, Stage2Config()
    model = Stage2Net(config.net, config.tokens.inputs, 1024).train()
    widths = {"features": (1024,), "logits": (14,), "heatmap_max": (14,), "peaks": (28,)}
    batch = {name: torch.randn(n, n_slices, *widths[name]) for name in config.tokens.inputs}
    batch |= {"depth_mm": torch.arange(n_slices).float().expand(n, -1), "mask": torch.ones(n, n_slices).bool()}
    batch |= {name: torch.ones(n, dtype=torch.long) for name in ("modality", "plane")}
    batch |= {"labels": torch.zeros(n, 14), "slice_labels": torch.zeros(n, n_slices, 14)}
    loss = Stage2Loss(config.loss, torch.full((14,), 0.1))
    yield from trained("stage 2, step", "series of 120 slices", lambda: loss(model, batch), model, n, rate)


def trained(
    step: str, unit: str, loss: Callable, model: torch.nn.Module, batch_size: int, rate: float
) -> Iterator[Measured]:
    """Forward pass, backward pass (twice as many operations as the forward pass) and optimizer step."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def once() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    floor_s = 3 * flops_of(loss) / rate
    while True:
        yield Measured(step, unit, "operations at matrix rate", floor_s / batch_size, seconds_of(once) / batch_size)


def extraction(config: BenchmarkConfig) -> Iterator[Measured]:
    cache, size = open_cache(config.data_dir), config.image_size
    settings = Stage1Config(config.encoder, InputConfig(image_size=size))
    model = Stage1Net(config.encoder, settings.heads, size).eval()
    encoder, images = Encoder(model, settings, CPU), torch.rand(config.batch_size, 3, size, size)
    series = cache.series_uids()
    for first in range(len(series)):
        start = time.perf_counter()
        done = extract(cache, series[first : first + 2], encoder, config.slice_spacing_mm, config.batch_size, workers=0)
        n_windows = sum(len(features.slice) for _, features in done)
        taken = (time.perf_counter() - start) / n_windows
        n_batches = -(-n_windows // config.batch_size)
        bare = bare_pass(model, images, encoder, n_batches) / (n_batches * config.batch_size)
        yield Measured("feature extraction", "window, both views", "encoder alone", bare, taken)


def end_to_end(series: Path, name: str, config: BenchmarkConfig) -> Iterator[Measured]:
    """The floor is the slower of encoding and decoding, which run at the same time."""
    predictor = Predictor([random_pair(config)] * config.pairs, CPU, True, config.batch_size)
    predictions = predictor.predict_all([series] * (1 + config.rounds), workers=1)
    next(predictions)  # nothing could be decoded ahead of the first
    while True:
        start = time.perf_counter()
        seconds = next(predictions).seconds
        taken = time.perf_counter() - start
        floor = max(("encode", "decode"), key=seconds.get)
        unit = f"series of {N_SLICES} slices"
        yield Measured(f"DICOM to answer, {name}", unit, f"{floor}r alone", seconds[floor], taken)


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
