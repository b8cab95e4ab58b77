"""Logs a run: CSV and plot always, TensorBoard and Weights & Biases optionally."""

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
Seen = dict[str, float | Histogram]  # name -> scalar or histogram of one optimizer step

STEP = "optimizer_step"
REDRAW_S = 20.0  # least time between plots: one takes 0.5 s, an epoch may take less


class Tracker:
    """Writes one row per epoch to <folder>/history.csv and plots them in <folder>/history.png.

    `rows` are the epochs before resuming. For the main process only. Raises ValueError if a package is missing.
    """

    def __init__(self, folder: Path, rows: list[dict], tensorboard: bool, wandb: bool, config: dict[str, Any]):
        self.folder, self.rows = folder, list(rows)
        self._drawn = -math.inf
        self._board = _tensorboard(folder) if tensorboard else None
        self._wandb = _wandb(folder, config) if wandb else None

    def report(self, row: dict[str, float]) -> None:
        """Logs one epoch; `row` has `epoch` and any other numbers."""
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
        """Logs the statistics of one optimizer step, to TensorBoard and Weights & Biases only."""
        if self._board:
            for name, value in seen.items():
                if isinstance(value, tuple):
                    _add_histogram(self._board, name, value, step)
                else:
                    self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(_for_wandb(seen) | {STEP: step})

    def close(self) -> None:
        """Draws the final plot and closes TensorBoard and Weights & Biases."""
        self._draw()
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()

    def _draw(self) -> None:
        plot_history(pd.DataFrame(self.rows, columns=None if self.rows else ["epoch"]), self.folder / "history.png")
        self._drawn = time.monotonic()


def plot_history(history: pd.DataFrame, path: Path) -> None:
    """A PNG of the history over epochs: columns named *loss* on the left, *score* and *auc* on the right."""
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
    """Adds a histogram; its sums, which TensorBoard needs, are estimated from bin centres."""
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
    run.define_metric("*", step_metric="epoch")  # epochs and steps share one log
    run.define_metric("activations/*", step_metric=STEP)
    return run
