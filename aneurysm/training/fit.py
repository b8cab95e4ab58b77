"""The training loop of every model here: a fixed number of epochs, EMA weights, and a run that can be killed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset
from tqdm import tqdm

from aneurysm.training.batches import EpochBatches, training_loader
from aneurysm.training.checkpoint import load_checkpoint, save_checkpoint, save_state
from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import World
from aneurysm.training.layout import batch_on, channels_last_model
from aneurysm.training.precision import choose_precision
from aneurysm.training.schedule import Plateau, make_schedule, watched
from aneurysm.training.sync import RunCopies
from aneurysm.training.tracking import Seen, Tracker

Batch = dict[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]  # the mean loss of a batch, forward pass included
Evaluate = Callable[[nn.Module], dict[str, float]]  # scores of the held-out fold, `score` among them; or nothing
Observe = Callable[[int], Seen]  # told of every optimizer step: what was seen of the model, mostly nothing


@dataclass
class Run:
    """What changes while a model is trained; all of it goes into the file that a killed run is resumed from."""

    model: nn.Module
    ema: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scheduler: Any
    scaler: torch.amp.GradScaler
    epoch: int = 0
    step: int = 0
    best: float = -math.inf

    @property
    def kept(self) -> nn.Module:
        """The model that is evaluated and saved."""
        return self.model if self.ema is None else self.ema.module

    def state(self) -> dict[str, Any]:
        own = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scaler")}
        own["ema"] = self.ema.state_dict() if self.ema is not None else {}
        own["scheduler"] = self.scheduler.state_dict() if isinstance(self.scheduler, Plateau) else {}
        return own | {"epoch": self.epoch, "step": self.step, "best": self.best, "random": torch.get_rng_state()}

    def load(self, state: dict[str, Any]) -> None:
        for name in ("model", "optimizer", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        if isinstance(self.scheduler, Plateau):
            self.scheduler.load_state_dict(state["scheduler"])
        self.scheduler.step_update(self.step)
        torch.set_rng_state(state["random"].cpu())


def fit(
    model: nn.Module,
    train_set: Dataset,
    loss: Loss,
    evaluate: Evaluate,
    config: TrainingConfig,
    folder: Path,
    world: World,
    saved_config: dict[str, Any] | None = None,
    resume: bool = False,
    collate: Callable[[list[Batch]], Batch] | None = None,
    model_dir: Path | None = None,
    observe: Observe | None = None,
) -> dict[str, float]:
    """Trains `model` and returns the scores of the last epoch, which are those of <folder>/last.pth.

    Items of `train_set` are asked for by (epoch, sample). Writes last.pth (EMA weights, the ones to use), best.pth
    (the best epoch by `score`: optimistic, since that fold chose it), history.csv and history.png, and resume.pth,
    from which `resume` goes on to the same end. `saved_config` is kept in the checkpoints. `collate` makes a batch of
    items that cannot just be stacked; what `observe` sees goes to TensorBoard and Weights & Biases. With
    `config.sync`, copies lie there as `folder` lies below `model_dir` (by default folder.parents[1], as of
    <encoder>/fold-<k>). Raises ValueError where the loss is no longer a number.
    """
    torch.manual_seed(config.seed)
    batches = EpochBatches(len(train_set), config.batch_size, config.accumulate, world, config.seed)
    run = _start(model, config, batches.n_steps, world)
    copies = RunCopies(config.sync, folder, model_dir or folder.parents[1], world)
    history = _go_on(run, folder, copies, world) if resume else []
    about = {"training": asdict(config)} | (saved_config or {})
    tracker = Tracker(folder, history, config.tensorboard, config.wandb, about) if world.is_main else None
    loader = training_loader(train_set, batches, config.workers, collate)
    forward = world.wrap(torch.compile(run.model) if config.compile else run.model)

    def told(step: int) -> None:
        seen = observe(step) if observe is not None else {}
        if seen and tracker is not None:
            tracker.report_step(step, seen)

    scores = {k: v for k, v in history[-1].items() if k not in _NOT_SCORES} if history else {}
    while run.epoch < config.epochs:
        started = time.perf_counter()
        batches.epoch = run.epoch
        mean_loss = _train_epoch(run, forward, loader, loss, config, world, told)
        run.epoch += 1
        seconds = time.perf_counter() - started
        due = run.epoch % config.evaluate_every == 0 or run.epoch == config.epochs
        scores = evaluate(run.kept.eval()) if due else {}
        lr = run.optimizer.param_groups[0]["lr"]
        run.scheduler.step(run.epoch, watched(config, mean_loss, scores))
        if tracker is not None:
            row = {"epoch": run.epoch, "loss": mean_loss, "lr": lr}
            tracker.report(row | {"samples_per_s": len(loader) * batches.part * world.size / seconds} | scores)
            _save(run, folder, about, scores, tracker.rows)
            copies.after_epoch(tracker.rows)
        world.wait()
    if tracker is not None:
        tracker.close()
    copies.close()
    return scores


_NOT_SCORES = ("epoch", "loss", "lr", "samples_per_s")


def _go_on(run: Run, folder: Path, copies: RunCopies, world: World) -> list[dict]:
    """Brings the run to where it was left, here or in its copies; the history of its epochs."""
    copies.fetch()
    if not (folder / "resume.pth").exists():
        return []
    state = load_checkpoint(folder / "resume.pth", world.device)
    run.load(state["run"])
    return state["history"]


def _start(model: nn.Module, config: TrainingConfig, steps_per_epoch: int, world: World) -> Run:
    model = model.to(world.device)
    if config.channels_last:
        model = channels_last_model(model)
    optimizer = create_optimizer_v2(model, config.optimizer, config.lr, config.weight_decay)
    scheduler = make_schedule(optimizer, config, steps_per_epoch)
    ema = AveragedModel(model, multi_avg_fn=_average(config.ema_decay), use_buffers=True) if config.ema_decay else None
    return Run(model, ema, optimizer, scheduler, choose_precision(world.device, config.precision).scaler())


def _average(decay: float) -> Callable:
    """The EMA update; its decay rises to `decay` with the steps, so that short runs do not keep their first weights."""

    def update(averages: list, currents: list, n_averaged: Tensor | int) -> None:
        n_steps = float(n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n_steps) / (10 + n_steps)))(averages, currents, n_averaged)

    return update


def _train_epoch(
    run: Run, forward: nn.Module, loader, loss: Loss, config: TrainingConfig, world: World, told: Callable[[int], None]
) -> float:
    """One pass; returns the mean loss over all processes."""
    run.model.train()
    precision = choose_precision(world.device, config.precision)
    total, n_parts = torch.zeros((), device=world.device), 0
    bar = tqdm(loader, desc=f"epoch {run.epoch + 1}/{config.epochs}", leave=False, disable=not world.is_main)
    for part, batch in enumerate(bar):
        batch = batch_on(world.device, batch, config.channels_last)
        with precision.autocast():
            value = loss(forward, batch)
        run.scaler.scale(value / config.accumulate).backward()
        total, n_parts = total + value.detach(), n_parts + 1
        if (part + 1) % config.accumulate == 0:
            _step(run, config)
            told(run.step)
    mean = float(world.gather((total / n_parts).float().cpu().numpy()[None]).mean())
    if not math.isfinite(mean):
        raise ValueError(f"epoch {run.epoch + 1}: the loss is {mean}; a lower lr or precision fp32 may help")
    return mean


def _step(run: Run, config: TrainingConfig) -> None:
    """One optimizer step with clipped gradients, then schedule and average."""
    run.scaler.unscale_(run.optimizer)
    if config.clip_norm:
        nn.utils.clip_grad_norm_(run.model.parameters(), config.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    run.step += 1
    run.scheduler.step_update(run.step)
    if run.ema is not None:
        run.ema.update_parameters(run.model)


def _save(run: Run, folder: Path, about: dict[str, Any], scores: dict[str, float], history: list[dict]) -> None:
    """last.pth, best.pth where this epoch is better than all before (a NaN score never is), and resume.pth last."""
    save_checkpoint(folder / "last.pth", run.kept, about, scores, run.epoch)
    score = scores.get("score", -math.inf)  # not every epoch is evaluated
    if math.isnan(score):
        print(f"epoch {run.epoch}: the score is NaN, best.pth stays as it is")
    if score > run.best:
        run.best = score
        save_checkpoint(folder / "best.pth", run.kept, about | {"optimistic": True}, scores, run.epoch)
    save_state(folder / "resume.pth", {"run": run.state(), "history": history})
