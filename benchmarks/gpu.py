"""Every step on a GPU: speed, fraction of the card's matrix rate, time spent waiting for data, memory.

    PYTHONPATH=. python benchmarks/gpu.py --folder /scratch
    PYTHONPATH=. python benchmarks/gpu.py --device cpu --encoder tf_efficientnet_lite0 --image_size 64 --n_series 8 \\
        --size 64 --batch_size 4 --sequence_batch 4 --volume_batch 4 --sequence configs/stage2/demo.yaml \\
        --volume configs/volume3d/demo.yaml

Makes phantoms in a temporary folder, removed at the end, and runs the scripts on them. The figures of a training are
those of the last epoch in its history.csv. The fraction of the card's rate is the operations per second of forward and
backward passes (three times those of the forward pass) over the rate of a large matrix product, which is measured
first. The goal is to wait for data at most 5 % of the time.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from aneurysm.config import run_script
from aneurysm.paths import VOLUME3D, ModelPaths
from aneurysm.stage1.config import ModelConfig
from aneurysm.stage1.model import Stage1Net
from aneurysm.training.distributed import init_distributed
from aneurysm.training.precision import training_precision
from benchmarks.growth import run
from benchmarks.rates import flops_of, matrix_rate


@dataclass(frozen=True)
class BenchmarkConfig:
    folder: Path = Path(tempfile.gettempdir())
    """where the temporary folder is made"""
    n_series: int = 96
    """phantoms"""
    size: int = 512
    """pixels across of the phantoms"""
    encoder: str = "convnext_base"
    """a model of timm, by name; with random weights, which take the same time"""
    image_size: int = 448
    """rows and columns of its input"""
    batch_size: int = 32
    """windows of a step of stage 1"""
    sequence_batch: int = 32
    """series of a step of stage 2"""
    volume_batch: int = 16
    """volumes of a step of the second system"""
    compile: tuple[bool, ...] = (False, True)
    """train stage 1 without torch.compile, with it, or both"""
    epochs: int = 3
    """of each training; the first one warms up"""
    sequence: str = "configs/stage2/base.yaml"
    """preset of stage 2"""
    volume: str = "configs/volume3d/pooled.yaml"
    """preset of the second system"""
    workers: int = 8
    """processes that prepare data"""
    device: str = "auto"
    """cpu, cuda, or auto"""


def main(config: BenchmarkConfig) -> None:
    device = init_distributed(config.device).device
    dtype = training_precision(device).dtype
    peak = matrix_rate(device, dtype)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{card}: {peak / 1e12:.2f} TFLOP/s of a {str(dtype).removeprefix('torch.')} matrix product", flush=True)
    floor = 3 * window_flops(config) / peak
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        data = Path(folder)
        prepared(data, config)
        for compiled in config.compile:
            seconds = run(stage1(data, config, compiled))[0]
            history = last_epoch(stage1_paths(data, config).fold(0))
            share = f", {history.samples_per_s * floor:.0%} of the card's matrix rate"
            print(line(f"train_stage1, compile {compiled}", seconds, history, "windows") + share, flush=True)
        both = f"--data_dir {data} --model_dir {data}/model --folds 2 --fold 0 --device {device.type}"
        extraction = f"extract_features.py {both} --own_fold false --workers {config.workers}"
        print(f"extract_features: {run(extraction)[0]:.0f} s")
        short = f"--training.epochs {config.epochs} --training.workers {config.workers}"
        tokens = "--tokens.cross_fitted false --tokens.inputs features,logits,heatmap_max,peaks"
        sequence = f"--config {config.sequence} {tokens} {short}"
        seconds = run(f"train_stage2.py {both} {sequence} --training.batch_size {config.sequence_batch}")[0]
        stage2 = last_epoch(stage1_paths(data, config).stage2(0))
        print(line("train_stage2", seconds, stage2, "series"), flush=True)
        print(f"eval_end_to_end: {run(f'eval_end_to_end.py {both} --workers {config.workers}')[0]:.0f} s", flush=True)
        batch = f"--training.batch_size {config.volume_batch} --training.accumulate 1"
        seconds = run(f"-m volume3d.train {both} --config {config.volume} {short} {batch}")[0]
        volume = last_epoch(ModelPaths(data / "model", VOLUME3D).fold(0))
        print(line("volume3d.train", seconds, volume, "volumes"), flush=True)


def prepared(data: Path, config: BenchmarkConfig) -> None:
    """Makes phantoms, both caches and folds."""
    workers = f"--workers {config.workers}"
    for command in (
        f"make_phantoms.py --out {data} --n_series {config.n_series} --size {config.size} --balanced true {workers}",
        f"preprocess_data.py --data_dir {data} {workers}",
        f"create_folds.py --data_dir {data} --folds 2",
        f"-m volume3d.build_manifest --data_dir {data} {workers}",
        f"-m volume3d.preprocess --data_dir {data} --z_mm 1.5 --size 256 {workers}",
    ):
        print(f"{command.split()[0 if command[0] != '-' else 1]}: {run(command)[0]:.0f} s", flush=True)


def stage1(data: Path, config: BenchmarkConfig, compiled: bool) -> str:
    return (
        f"train_stage1.py --data_dir {data} --model_dir {data}/model --folds 2 --fold 0 --encoder {config.encoder} "
        f"--weights none --input.image_size {config.image_size} --training.batch_size {config.batch_size} "
        f"--training.epochs {config.epochs} --training.workers {config.workers} "
        f"--training.compile {str(compiled).lower()} --device {config.device}"
    )


def stage1_paths(data: Path, config: BenchmarkConfig) -> ModelPaths:
    return ModelPaths(data / "model", config.encoder)


def window_flops(config: BenchmarkConfig) -> int:
    """Floating-point operations of a forward pass on one window."""
    model = Stage1Net(config.encoder, ModelConfig(), config.image_size).eval()
    image = torch.rand(1, 3, config.image_size, config.image_size)
    with torch.no_grad():
        return flops_of(lambda: model(image))


def last_epoch(folder: Path) -> pd.Series:
    return pd.read_csv(folder / "history.csv").iloc[-1]


def line(step: str, seconds: float, history: pd.Series, samples: str) -> str:
    memory = f", {history.peak_gb:.1f} GB at most" if "peak_gb" in history else ""
    return (
        f"{step}: {seconds:.0f} s, {history.samples_per_s:.1f} {samples}/s, "
        f"{history.wait_share:.1%} of the time waiting for data{memory}"
    )


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
