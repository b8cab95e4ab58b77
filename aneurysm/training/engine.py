"""The training loop of every model: fixed number of epochs, EMA weights, resume after an interruption."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from aneurysm.training.config import TrainingConfig
from aneurysm.training.data import EpochBatches, Throughput, names_of, steps, training_loader
from aneurysm.training.distributed import DistContext
from aneurysm.training.folder import RESUME, RunFolder
from aneurysm.training.interrupt import Interrupt, Interrupted
from aneurysm.training.precision import flush_denormals
from aneurysm.training.state import Run, start_run, watched
from aneurysm.training.tracking import Seen
from aneurysm.training.train_step import Batch, Loss, TrainStep

SHOW_EVERY = 16  # optimizer steps between updates of the loss in the bar: reading it waits for the GPU
Evaluate = Callable[[nn.Module], dict[str, float]]  # scores of the held-out fold, with `score`; or {}
Observe = Callable[[int], Seen]  # called with the number of optimizer steps done; returns statistics, mostly {}


def fit(
    model: nn.Module,
    train_set: Dataset,
    loss: Loss,
    evaluate: Evaluate,
    config: TrainingConfig,
    folder: Path,
    world: DistContext,
    saved_config: dict[str, Any] | None = None,
    resume: bool = False,
    collate: Callable[[list[Batch]], Batch] | None = None,
    model_dir: Path | None = None,
    observe: Observe | None = None,
) -> dict[str, float]:
    """Trains `model` and returns the scores of the last epoch, whose weights are <folder>/last.pth.

    Items of `train_set` are indexed by (epoch, sample), in random order unless it has `order(rng)`. Writes last.pth
    (EMA weights, the ones to use), best.pth (the epoch with the highest `score`: optimistic, because the held-out fold
    selected it), history.csv, history.png and resume.pth; `resume` continues from the latter to the same result, with
    the same settings (folder.py). `saved_config` is saved in the checkpoints. `collate` replaces the stacking of items;
    `observe`'s statistics go to TensorBoard and Weights & Biases. With `config.sync`, copies get the path of `folder`
    below `model_dir` (default: folder.parents[1], as for <encoder>/fold-<k>). Raises ValueError for a non-finite loss,
    naming the series by `train_set.name_of(key)`, and if another run uses the folder. A signal (interrupt.py) raises
    Interrupted, which ends the program; resume.pth then has the last optimizer step.
    """
    flush_denormals()
    torch.manual_seed(world.seed(config.seed))
    order = getattr(train_set, "order", None)
    batches = EpochBatches(len(train_set), config.batch_size, config.accumulate, world, config.seed, order)
    run = start_run(model, config, batches.n_steps, world)
    about = (saved_config or {}) | {"n_samples": len(train_set)}
    run_folder = RunFolder(folder, model_dir or folder.parents[1], config, about, world)
    loader = training_loader(train_set, batches, config.workers, collate)
    forward = world.wrap(torch.compile(run.model) if config.compile else run.model)
    train_step = TrainStep(run, forward, loss, config, batches, partial(names_of, train_set))
    log_step = (
        (lambda step: run_folder.report_step(step, observe(step))) if observe is not None else (lambda step: None)
    )
    with run_folder.locked_for_writing(), Interrupt() as interrupt:
        scores = run_folder.open(run, resume)
        while run.epoch < config.epochs:
            throughput, n_before = Throughput(world.device), run.step
            _train_epoch(train_step, loader, interrupt, log_step, throughput)
            reached = throughput.row((run.step - n_before) * config.batch_size)
            try:
                scores = _end_epoch(run, run_folder, evaluate, interrupt, reached)
            except Interrupted:
                break
            world.wait()
        run_folder.close()
        if interrupt.signum and world.is_main:
            print(_stopped_text(interrupt, run, batches, folder), flush=True)
        interrupt.check()
    return scores


def _train_epoch(
    train_step: TrainStep,
    loader: DataLoader,
    interrupt: Interrupt,
    log_step: Callable[[int], None],
    throughput: Throughput,
) -> None:
    """Runs the remaining steps of the epoch, or until a signal; ValueError if all steps of the epoch were skipped."""
    run, batches, world = train_step.run, train_step.batches, train_step.batches.world
    run.model.train()
    batches.epoch, batches.first_step = run.epoch, run.step - run.epoch * batches.n_steps
    bar = tqdm(
        throughput.waiting(steps(loader, batches)), f"epoch {run.epoch + 1}/{train_step.config.epochs}",
        batches.n_steps,
        leave=False, initial=batches.first_step, disable=None if world.is_main else True,  # None: only on a terminal
    )  # fmt: skip
    for keys, parts in bar:
        train_step(keys, parts)
        log_step(run.step)
        if bar.disable and world.is_main and run.step % train_step.config.log_every == 0:
            print(_step_text(run, batches, throughput), flush=True)
        elif not bar.disable and run.step % SHOW_EVERY == 0:
            bar.set_postfix_str(_loss_text(run), refresh=False)
        if interrupt.requested(world):
            break
    train_step.non_finite.check()
    if run.n_skipped and not interrupt.signum:
        text = f"epoch {run.epoch + 1}: {run.n_skipped} of {batches.n_steps} steps were left out"
        if not run.n_counted:
            raise ValueError(f"{text}, their losses or gradients being non-finite")
        if world.is_main:
            print(f"{text}, and are not in its mean loss")


def _end_epoch(
    run: Run, run_folder: RunFolder, evaluate: Evaluate, interrupt: Interrupt, reached: dict[str, float]
) -> dict[str, float]:
    """Evaluates the epoch if due, writes all its files and returns the scores, {} without evaluation.

    Raises Interrupted on a signal before the evaluation or, with one process, during it; resume.pth then has the state
    before the evaluation. Several processes finish the evaluation and stop after the next step.
    """
    config, world = run_folder.config, run_folder.world
    state = run.state(world)
    due = (run.epoch + 1) % config.evaluate_every == 0 or run.epoch + 1 == config.epochs
    try:
        if interrupt.requested(world):
            interrupt.check()
        if world.size > 1 and due:
            run_folder.save_resume(state)  # a process that stopped alone would leave the others waiting
        with interrupt.interruptible() if world.size == 1 else nullcontext():
            scores = evaluate(run.evaluated_model.eval()) if due else {}
    except Interrupted:
        run_folder.save_resume(state)
        raise
    skipped = {"skipped": run.n_skipped} if config.skip_nan else {}
    row = {"loss": run.mean_loss(world), "lr": _lr(run)} | skipped | reached
    run.end_epoch(scores)
    if world.is_main:
        tqdm.write(epoch_text(run.epoch, config.epochs, row | scores))
    run.scheduler.step(run.epoch, watched(config, row["loss"], scores))
    run_folder.save_epoch(run, row, scores, run.state(world))
    return scores


def _loss_text(run: Run) -> str:
    """Mean loss of the epoch so far, and the learning rate."""
    return f"loss {float(run.loss_sum) / (run.n_counted or math.nan):.4g}, lr {_lr(run):.2g}"


def _step_text(run: Run, batches: EpochBatches, throughput: Throughput) -> str:
    step = run.step - run.epoch * batches.n_steps
    speed = _speed_text(throughput.row((step - batches.first_step) * batches.batch_size))
    return f"epoch {run.epoch + 1}, step {step}/{batches.n_steps}: {_loss_text(run)}, {speed}"


def _speed_text(row: dict[str, float]) -> str:
    return f"{row['samples_per_s']:.3g} samples/s, {row['wait_share']:.0%} of the time waiting for data"


def epoch_text(epoch: int, of: int, row: dict[str, float]) -> str:
    """The progress line of an epoch: loss, scores if any, learning rate, throughput, share of time waiting for data."""
    scores = [f"{name.replace('_', ' ')} {row[name]:.3f}" for name in ("score", "auc_present") if name in row]
    return ", ".join([f"epoch {epoch}/{of}: loss {row['loss']:.4g}", *scores, f"lr {row['lr']:.2g}", _speed_text(row)])


def _lr(run: Run) -> float:
    return run.optimizer.param_groups[0]["lr"]


def _stopped_text(interrupt: Interrupt, run: Run, batches: EpochBatches, folder: Path) -> str:
    n_steps = run.step - run.epoch * batches.n_steps
    return (
        f"{interrupt.name}: stopped after {run.epoch} epochs and {n_steps} of {batches.n_steps} steps; "
        f"{folder / RESUME} has all of it, and --resume goes on from there"
    )
