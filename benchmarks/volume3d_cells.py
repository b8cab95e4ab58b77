"""Cost of the dense head relative to the bare backbone, in training and prediction; time to draw phantom parts.

    python -m benchmarks.volume3d_cells

Reads and writes nothing; one thread. Each pair is timed in turn, round by round, and the median ratio is printed. The
first pair is forward and backward passes of configs/volume3d/dense.yaml with its loss, against those of the backbone
with a mean as loss. The second is the prediction of a whole volume against the backbone's forward pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from aneurysm.config import parse_config, run_script
from aneurysm.phantom.config import FIRST_SEED
from aneurysm.training.precision import batch_on, channels_last_model
from benchmarks.rates import seconds_of
from volume3d.config import LossConfig
from volume3d.model import Volume3dNet
from volume3d.phantoms import scan_parts
from volume3d.pretrain import PretrainVolume3dConfig
from volume3d.training import Volume3dLoss

CPU = torch.device("cpu")


@dataclass(frozen=True)
class CellsBenchmark:
    volume: tuple[int, int, int] = (188, 144, 144)
    """voxels of a series"""
    rounds: int = 5
    """rounds of each pair"""
    scans: int = 16
    """scans that parts are drawn of"""


def main(config: CellsBenchmark) -> None:
    torch.set_num_threads(1)
    preset = parse_config(PretrainVolume3dConfig, "", ["--config", "volume3d/dense"])
    model = channels_last_model(Volume3dNet(preset.net))
    shape, n = preset.phantoms.shape, preset.training.batch_size
    batch = batch_on(CPU, made_up(n, shape, preset.net.stride), last=True)
    loss = Volume3dLoss(LossConfig(), torch.full((14,), 0.5))
    model.train()
    compare(
        f"a step on {n} parts of {' x '.join(map(str, shape))}", config.rounds,
        lambda: loss(model, batch).backward(), lambda: model.backbone(batch["image"]).mean().backward(),
    )  # fmt: skip
    model.eval()
    whole = batch_on(CPU, made_up(1, config.volume, preset.net.stride), last=True)
    with torch.inference_mode():
        compare(
            f"a series of {' x '.join(map(str, config.volume))}", config.rounds,
            lambda: model(whole), lambda: model.backbone(whole["image"]),
        )  # fmt: skip
    start = time.process_time()
    for number in range(config.scans):
        scan_parts(FIRST_SEED, number, preset.phantoms, preset.volumes, preset.net.stride)
    seconds = (time.process_time() - start) / (config.scans * preset.phantoms.parts_per_scan)
    print(f"a part of a phantom is drawn in {seconds:.2f} s of processor time")


def made_up(n: int, shape: tuple[int, int, int], stride: int) -> dict[str, torch.Tensor]:
    cells = (n, *(size // stride for size in shape))
    sac = torch.zeros(cells, dtype=torch.uint8)
    sac[:, 2:5, 2:5, 2:5] = 3
    return {
        "image": torch.rand(n, 1, *shape), "labels": torch.zeros(n, 14), "sac": sac, "vessels": sac,
        "place_mm": torch.zeros(n, 3), "spacing_mm": torch.full((n, 3), 0.8),
    }  # fmt: skip


def compare(what: str, rounds: int, ours: Callable[[], object], bare: Callable[[], object]) -> None:
    ours(), bare()
    pairs = [(seconds_of(ours), seconds_of(bare)) for _ in range(rounds)]
    ratio = median(own / other for own, other in pairs)
    print(f"{what}: {median(own for own, _ in pairs):.2f} s, {ratio:.2f} times the bare backbone", flush=True)


if __name__ == "__main__":
    run_script(main, CellsBenchmark, __doc__)
