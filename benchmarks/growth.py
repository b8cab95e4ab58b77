"""Time and memory of every step against the number of series, and against the slices of one series.

    PYTHONPATH=. python benchmarks/growth.py --n_series 24,96,384 --n_slices 30,330,1400 --plot content/growth.png

Makes phantoms in a temporary folder, removed at the end, and runs the scripts on them one after another, as a user
would, with presets for two CPU cores and one epoch of each training. Memory is the largest resident set of any process
of a step. CPU seconds include the start of Python and its libraries. The last table therefore compares the cost of one
more series (or slice) among many with its cost among few, a ratio of 1 if time is linear. It also compares the memory
at the largest number with that at the smallest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from pydicom.uid import RLELossless

from aneurysm.config import run_script
from aneurysm.labels import LABELS
from benchmarks.preprocess import write_series

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
LEAST_S = 0.2  # CPU seconds: no ratio is printed for a smaller growth
KEPT_MM = 180.0  # of the head, which the slices of a series cover, whatever their number
# Runs a command from a small process, because a new process first counts the memory of its parent as its own.
USAGE = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
COLUMNS = ("against", "n", "step", "seconds", "cpu_s", "peak_mb")
LINE = "{:>7} {:>5}  {:24} {:>8} {:>8} {:>8}"

_BOTH = "--data_dir {data} --model_dir {data}/model --folds 2"
_SHORT = "--fold 0 --training.epochs 1 --training.workers 0"
_SMALL = f"{_SHORT} --training.batch_size 4"
OF_SERIES = {
    "make_phantoms": "make_phantoms.py --out {data} --n_series {n} --size {size} --balanced true --workers 1",
    "preprocess_data": "preprocess_data.py --data_dir {data} --workers 1",
    "create_folds": "create_folds.py --data_dir {data} --folds 2",
    "train_stage1": f"train_stage1.py {_BOTH} --config configs/stage1/demo.yaml {_SHORT} --input.image_size 96",
    "extract_features": f"extract_features.py {_BOTH} --own_fold false --fold 0 --slice_spacing_mm 6 --workers 1",
    "train_stage2": f"train_stage2.py {_BOTH} --config configs/stage2/demo.yaml {_SMALL} --tokens.cross_fitted false",
    "eval_end_to_end": f"eval_end_to_end.py {_BOTH} --fold 0 --workers 1",
    "volume3d.build_manifest": "-m volume3d.build_manifest --data_dir {data} --workers 1",
    "volume3d.preprocess": "-m volume3d.preprocess --data_dir {data} --z_mm 2.5 --workers 1",
    "volume3d.train": f"-m volume3d.train {_BOTH} --config configs/volume3d/demo.yaml {_SMALL}",
}
EXPORT = "eval_end_to_end.py --model_dir {data}/model --folds 2 --export {bundle}"
OF_SLICES = {
    "preprocess_data": "preprocess_data.py --data_dir {data} --workers 1",
    "predict": "predict.py {data}/series --bundle {bundle} --out {data}/report --workers 1",
    "volume3d.build_manifest": "-m volume3d.build_manifest --data_dir {data} --workers 1",
    "volume3d.preprocess": "-m volume3d.preprocess --data_dir {data} --z_mm 2.5 --workers 1",
}


@dataclass(frozen=True)
class BenchmarkConfig:
    n_series: tuple[int, ...] = (24, 96, 384)
    """numbers of phantoms"""
    n_slices: tuple[int, ...] = (30, 330, 1400)
    """numbers of slices of one synthetic CT of 512 x 512 pixels, RLE"""
    size: int = 128
    """pixels across of the phantoms"""
    folder: Path = Path(tempfile.gettempdir())
    """where the temporary folder is made"""
    plot: Path | None = None
    """a PNG of the table"""


def main(config: BenchmarkConfig) -> None:
    print(LINE.format(*COLUMNS), flush=True)
    rows = []
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        for row in measured(Path(folder), config):
            rows.append(row)
            print(LINE.format(*row[:3], *(f"{value:.1f}" for value in row[3:])), flush=True)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    print("\nthe cost of one more among many, over that among few; memory, over that of the smallest number")
    print(growth(table).to_string(index=False, float_format="%.2f", na_rep="-"))
    if config.plot:
        draw(table, config.plot)
        print(config.plot)


def measured(folder: Path, config: BenchmarkConfig) -> Iterator[tuple]:
    """Rows of COLUMNS, one after each measurement."""
    bundle = folder / "bundle"
    for n in config.n_series:
        values = {"data": folder / f"series{n}", "n": n, "size": config.size, "bundle": bundle}
        for step, command in OF_SERIES.items():
            yield ("series", n, step, *run(command.format(**values)))
    run(EXPORT.format(**values))
    for n in config.n_slices:
        data = folder / f"slices{n}"
        write_series(data / "series" / "a", n, RLELossless, gap_mm=KEPT_MM / n)
        header = ["SeriesInstanceUID", "PatientAge", "PatientSex", "Modality", *LABELS]
        pd.DataFrame([["a", 60, "Female", "CTA", *[0] * len(LABELS)]], columns=header).to_csv(data / "train.csv")
        for step, command in OF_SLICES.items():
            yield ("slices", n, step, *run(command.format(data=data, bundle=bundle)))


def run(command: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and the largest resident set in MB of a command and all its processes."""
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            [sys.executable, "-c", USAGE, sys.executable, *command.split()],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, env=os.environ | settings, check=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        code, cpu_s, peak_kb = json.loads(done.stdout)
        if code:
            errors.seek(0)
            sys.exit(f"error: {command}\n{errors.read().decode()[-2000:]}")
    return seconds, cpu_s, peak_kb / 1024


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """For each step, CPU ms of one more series or slice among few and among many, and their ratio; ratio of memory.

    Few: between the two smallest numbers; many: between the two largest.
    """
    rows = []
    for (against, step), part in table.groupby(["against", "step"], sort=False):
        n, cpu, peak = (part[name].to_numpy(float) for name in ("n", "cpu_s", "peak_mb"))
        each = 1e3 * (cpu[1:] - cpu[:-1]) / (n[1:] - n[:-1])
        ratio = each[-1] / each[0] if cpu[1] - cpu[0] > LEAST_S else float("nan")
        rows.append((against, step, each[0], each[-1], ratio, peak[-1] / peak[0]))
    return pd.DataFrame(rows, columns=["against", "step", "ms among few", "among many", "time", "memory"])


def draw(table: pd.DataFrame, path: Path) -> None:
    """Plots CPU time and memory of each step, against series above and slices below, without make_phantoms."""
    table = table[table.step != "make_phantoms"]
    colours = {step: f"C{number % 10}" for number, step in enumerate(table.step.unique())}
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for row, against in zip(axes, ("series", "slices of one series"), strict=True):
        for step, part in table[table.against == against.split()[0]].groupby("step", sort=False):
            for panel, column in zip(row, ("cpu_s", "peak_mb"), strict=True):
                panel.plot(part.n, part[column], "o-", color=colours[step], label=step, markersize=4)
        for panel, title in zip(row, ("CPU seconds", "largest process, MB"), strict=True):
            panel.set(xlabel=against, title=title, xlim=(0, None), ylim=(0, None))
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(alpha=0.3)
        row[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
