"""What a run reports: a CSV and a plot always, TensorBoard and Weights & Biases where asked for."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aneurysm.package import without_extra
from aneurysm.paths import atomic_write

Histogram = tuple[np.ndarray, np.ndarray]  # counts (bins,) and edges (bins + 1,)
Seen = dict[str, float | Histogram]  # numbers and histograms of one optimizer step, by name

STEP = "optimizer_step"
REDRAW_S = 20.0  # the plot takes half a second: epochs may take less


class Tracker:
    """Keeps one row of numbers an epoch in <folder>/history.csv and draws <folder>/history.png.

    `rows` are those of an earlier part of the same run. Only the main process should have one.
    """

    def __init__(self, folder: Path, rows: list[dict], tensorboard: bool, wandb: bool, config: dict[str, Any]):
        self.folder, self.rows = folder, list(rows)
        self._drawn = -math.inf
        self._board = _tensorboard(folder) if tensorboard else None
        self._wandb = _wandb(folder, config) if wandb else None

    def report(self, row: dict[str, float]) -> None:
        """Adds one epoch; `row` holds `epoch` and any other numbers."""
        self.rows.append(row)
        with atomic_write(self.folder / "history.csv") as beside:
            pd.DataFrame(self.rows).to_csv(beside, index=False)
        if time.monotonic() - self._drawn > REDRAW_S:
            self._draw()
        if self._board:
            for name, value in row.items():
                self._board.add_scalar(name, value, int(row["epoch"]))
            self._board.flush()
        if self._wandb:
            self._wandb.log(row)

    def report_step(self, step: int, seen: Seen) -> None:
        """What was seen at one optimizer step, for TensorBoard and Weights & Biases alone."""
        if self._board:
            for name, value in seen.items():
                if isinstance(value, tuple):
                    _add_histogram(self._board, name, value, step)
                else:
                    self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(_for_wandb(seen) | {STEP: step})

    def close(self) -> None:
        """Draws the plot a last time and ends what else was opened."""
        self._draw()
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()

    def _draw(self) -> None:
        plot_history(pd.DataFrame(self.rows, columns=None if self.rows else ["epoch"]), self.folder / "history.png")
        self._drawn = time.monotonic()


def plot_history(history: pd.DataFrame, path: Path) -> None:
    """A PNG of every column over the epochs: losses at the left, all else at the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    names = [name for name in history if name != "epoch"]
    losses = [name for name in names if "loss" in name]
    for axis, group, title in zip(figure.subplots(1, 2), (losses, [n for n in names if "score" in n or "auc" in n]),
                                  ("loss", "score"), strict=True):  # fmt: skip
        for name in group:
            known = history[["epoch", name]].dropna()  # not every epoch is evaluated
            axis.plot(known.epoch, known[name], marker="o", ms=3, label=name)
        axis.set(xlabel="epoch", title=title)
        if group:
            axis.legend(fontsize=7)
    with atomic_write(path) as beside:
        figure.savefig(beside, format="png", dpi=90)


def _add_histogram(board: Any, name: str, histogram: Histogram, step: int) -> None:
    """TensorBoard asks for sums, too: those of the bins' middles."""
    counts, edges = histogram
    middles = (edges[1:] + edges[:-1]) / 2
    board.add_histogram_raw(
        name, min=edges[0], max=edges[-1], num=counts.sum(), sum=(counts * middles).sum(),
        sum_squares=(counts * middles**2).sum(), bucket_limits=edges[1:].tolist(), bucket_counts=counts.tolist(),
        global_step=step,
    )  # fmt: skip


def _for_wandb(seen: Seen) -> dict[str, Any]:
    import wandb

    return {k: wandb.Histogram(np_histogram=v) if isinstance(v, tuple) else v for k, v in seen.items()}


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise without_extra("--training.tensorboard", "tracking", error) from error
    return SummaryWriter(folder / "tensorboard")


def _wandb(folder: Path, config: dict[str, Any]) -> Any:
    try:
        import wandb  # WANDB_MODE=offline works without internet
    except ImportError as error:
        raise without_extra("--training.wandb", "tracking", error) from error
    run = wandb.init(
        project="aneurysm", dir=folder, config=config, id=folder.as_posix().replace("/", "-"), resume="allow"
    )
    run.define_metric("*", step_metric="epoch")  # rows of epochs and of steps stand in one log, each with its number
    run.define_metric("activations/*", step_metric=STEP)
    return run
