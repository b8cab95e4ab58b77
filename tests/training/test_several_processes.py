"""Several processes train one model: each draws its own dropout, and gradients are exchanged once a step."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.multiprocessing import spawn

from aneurysm.training.config import TrainingConfig
from aneurysm.training.distributed import DistContext
from aneurysm.training.engine import fit
from aneurysm.training.state import start_run
from tests.small_training import Points, loss, make_model

CONFIG = TrainingConfig(epochs=2, batch_size=16, lr=0.02, ema_decay=0.0, workers=0, precision="fp32")
N_STEPS = 2 * 64 // 16
CPU = torch.device("cpu")


class CountingWorld(DistContext):
    """Counts how often gradients go from process to process."""

    def wrap(self, model: nn.Module) -> nn.Module:
        wrapped = super().wrap(model)
        wrapped.register_comm_hook(self.exchanged, lambda seen, bucket: seen.append(1) or allreduce_hook(None, bucket))
        return wrapped

    @property
    def exchanged(self) -> list[int]:
        return self.__dict__.setdefault("_exchanged", [])


def train_in_process(rank: int, folder: Path) -> None:
    """One of two processes: trains in parts, and leaves what it has counted and drawn."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    world, seen = CountingWorld(rank, 2, CPU), []

    def watched_loss(model: nn.Module, batch: dict) -> torch.Tensor:
        seen.append(nn.functional.dropout(torch.ones(64), 0.5))  # in the middle of a step, as a network draws it
        return loss(model, batch)

    config = replace(CONFIG, accumulate=2)
    fit(make_model(), Points(64, 0), watched_loss, lambda model: {}, config, folder / "run", world)
    torch.save({"exchanged": len(world.exchanged), "dropout": torch.stack(seen)}, folder / f"{rank}.pth")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("two")
    spawn(train_in_process, (made,), nprocs=2)
    return made


def test_gradients_are_exchanged_once_a_step_however_many_parts_it_has(folder):
    for rank in (0, 1):
        found = torch.load(folder / f"{rank}.pth")
        assert len(found["dropout"]) == 2 * N_STEPS  # two parts a step in each process
        assert found["exchanged"] == N_STEPS


def test_each_process_draws_its_own_dropout(folder):
    main, other = (torch.load(folder / f"{rank}.pth")["dropout"] for rank in (0, 1))
    assert not any(torch.equal(one, two) for one, two in zip(main, other, strict=True))


def test_two_processes_in_parts_end_with_the_weights_of_one(folder, tmp_path):
    fit(make_model(), Points(64, 0), loss, lambda model: {}, CONFIG, tmp_path, DistContext(0, 1, CPU))
    one, two = (torch.load(path / "last.pth")["weights"] for path in (tmp_path, folder / "run"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_a_process_that_joins_a_resumed_run_draws_numbers_of_its_own():
    alone, joined = DistContext(0, 1, CPU), DistContext(1, 2, CPU)
    run = start_run(make_model(), CONFIG, 4, alone)
    torch.manual_seed(1)
    state = run.state(alone)
    kept = torch.rand(3)
    torch.manual_seed(2)
    own = torch.rand(3)
    for world, expected in ((alone, kept), (joined, own)):
        torch.manual_seed(2)
        run.load(state, world)
        assert torch.equal(torch.rand(3), expected)


def test_the_main_process_has_the_seed_of_the_run_and_every_other_one_its_own():
    seeds = [DistContext(rank, 8, CPU).seed(5) for rank in range(8)]
    assert seeds[0] == 5 and len(set(seeds)) == 8
