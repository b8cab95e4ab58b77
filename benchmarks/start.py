"""How long a user waits for --help, and until a script opens its first data file.

    PYTHONPATH=. python benchmarks/start.py --data_dir demo --model_dir demo/model --folds 2

Reads folders that `make demo` has filled. Each script is stopped at the first file that it opens there, so that nothing
is written. Prints the median wall and CPU seconds of the rounds (CPU of all processes that were started), and those of
importing torch and timm alone, a lower bound for every script that trains.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from aneurysm.config import run_script

ROOT = Path(__file__).parents[1]
HELP_S, WITHOUT_TORCH_S, WITH_TORCH_S = 1.0, 1.5, 4.0  # goals
# Runs a script until it opens a file below one of the folders. Arguments: the folders, the script, its arguments.
STOP = """
import os, runpy, sys
folders = tuple(sys.argv[1].split(os.pathsep))
def hook(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(folders):
        os._exit(99)
sys.argv = sys.argv[2:]
sys.path.insert(0, os.getcwd())
sys.addaudithook(hook)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class BenchmarkConfig:
    data_dir: Path = Path("demo")
    """folder that `make demo` has filled"""
    model_dir: Path = Path("demo/model")
    """folder with its models"""
    folds: int = 2
    """number of folds there"""
    rounds: int = 5
    """rounds"""


def main(config: BenchmarkConfig) -> None:
    data, model, folds = config.data_dir.absolute(), config.model_dir.absolute(), ["--folds", config.folds]
    both = ["--data_dir", data, "--model_dir", model, *folds]
    scripts = {
        "make_phantoms.py": ["--out", data, "--n_series", 1],
        "preprocess_data.py": ["--data_dir", data, "--workers", 1],
        "create_folds.py": ["--data_dir", data, *folds],
        "train_stage1.py": both,
        "eval_stage1.py": both,
        "extract_features.py": both,
        "train_stage2.py": both,
        "eval_stage2.py": both,
        "eval_end_to_end.py": both,
        "predict.py": [data / "series", "--out", data / "report"],
    }
    print(f"| script | --help, s | CPU | goal {HELP_S:g} s | until the first file of data, s | CPU | goal |")
    print("|---|---|---|---|---|---|---|")
    for name, arguments in scripts.items():
        asked = [timed([name, "--help"], 0) for _ in range(config.rounds)]
        command = ["-c", STOP, os.pathsep.join(map(str, (data, model))), name, *arguments]
        begun = [timed(command, 99) for _ in range(config.rounds)]
        goal = WITH_TORCH_S if needs_torch(command) else WITHOUT_TORCH_S
        (help_s, help_cpu), (begun_s, begun_cpu) = (tuple(map(median, zip(*r, strict=True))) for r in (asked, begun))
        print(f"| {name} | {help_s:.2f} | {help_cpu:.2f} | {met(help_s, HELP_S)} | {begun_s:.2f} | {begun_cpu:.2f} | "
              f"{goal:g} s: {met(begun_s, goal)} |", flush=True)  # fmt: skip
    bare = [timed(["-c", "import torch, timm"], 0) for _ in range(config.rounds)]
    wall, cpu = map(median, zip(*bare, strict=True))
    print(f"\nimport torch, timm and nothing else: {wall:.2f} s, CPU {cpu:.2f}")


def timed(arguments: list, expected: int) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process; ends the program if its exit status is not `expected`."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode != expected:
        sys.exit(
            f"error: {' '.join(map(str, arguments))}: exit status {done.returncode}, not {expected}: {done.stderr}"
        )
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def needs_torch(arguments: list) -> bool:
    """Whether a Python process with these arguments imports torch."""
    command = [sys.executable, "-X", "importtime", *map(str, arguments)]
    times = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stderr
    return re.search(r"\| +torch$", times, re.MULTILINE) is not None


def met(seconds: float, goal: float) -> str:
    return "met" if seconds <= goal else "missed"


if __name__ == "__main__":
    run_script(main, BenchmarkConfig, __doc__)
