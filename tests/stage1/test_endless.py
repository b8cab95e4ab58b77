"""Endless phantom windows as training samples, pretraining on them, and the file of weights that comes of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

import pretrain
from aneurysm.config import parse_config
from aneurysm.folds.targets import RIM
from aneurysm.package import pretrained_folder
from aneurysm.phantom.config import PhantomWindowsConfig
from aneurysm.phantom.windows import PhantomWindow
from aneurysm.stage1 import endless
from aneurysm.stage1.config import InputConfig, ModelConfig, Stage1Config
from aneurysm.stage1.endless import EndlessWindows
from aneurysm.stage1.losses import Stage1Loss
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.predict import load_stage1
from aneurysm.training.checkpoint import read_pretrained
from aneurysm.training.data import EpochBatches, mixed, training_loader
from aneurysm.training.distributed import DistContext

ALONE = DistContext(0, 1, torch.device("cpu"))
ENCODER = "mobilenetv4_conv_small"
PHANTOMS = PhantomWindowsConfig(part=64, sizes=(128,), sacs=2, slabs_per_sac=1, free_slabs=0, windows_per_slab=2)
CONFIG = Stage1Config(
    encoder=ENCODER,
    input=InputConfig(image_size=144, crop=(0.26, 0.74, 0.2, 0.68), n_slices=5, neighbour_mm=1.5),
    heads=ModelConfig(heatmap_stride=4, neck_width=16, vessel_weight=1.0, drop_rate=0.0),
)


def windows(n: int = 8) -> EndlessWindows:
    return EndlessWindows(CONFIG, PHANTOMS, 1_000_000, n)


@pytest.fixture(scope="module")
def some() -> list[dict[str, torch.Tensor]]:
    own = windows(24)
    return [own[0, i] for i in range(24)]


def test_samples_have_the_targets_of_their_heads_and_labels_of_the_sacs_they_show(some):
    shown = 0
    for item in some:
        assert item["image"].shape == (5, 64, 64) and item["image"].dtype == torch.float32
        assert item["sac"].shape == item["vessels"].shape == (16, 16) and item["sac"].dtype == torch.uint8
        own = {int(value) - 1 for value in item["sac"].unique() if 0 < value < RIM}
        assert set(item["labels"].nonzero()[:, 0].tolist()) == own | ({13} if own else set())
        shown += bool(own)
    assert 0 < shown < len(some)
    plain = EndlessWindows(replace(CONFIG, heads=ModelConfig(heatmap_weight=0)), PHANTOMS, 1_000_000, 8)
    assert set(plain[0, 0]) == {"image", "labels"}


def test_a_false_peak_is_the_highest_of_the_map_where_no_sac_is(monkeypatch):
    heatmap = torch.full((1, 14, 4, 4), -9.0)
    heatmap[0, 13, 0, :3] = torch.tensor([3.0, 2.0, 1.0])
    heatmap[0, 5, 3, 3] = 9.0  # of another label
    monkeypatch.setattr(endless, "_network", lambda weights: lambda image: {"heatmap": heatmap})
    sac = np.zeros((4, 4), np.uint8)
    sac[0, :2] = 7, RIM
    window = PhantomWindow(np.zeros((16, 16, 5), np.float32), sac, sac, (0, 0), "axial", "CTA")
    assert endless.false_peak(Path("any"), window) == pytest.approx(torch.tensor(1.0).sigmoid().item())


def test_mining_wants_a_network_of_the_same_input_and_says_so_before_it_begins(tmp_path):
    mined = PhantomWindowsConfig(sizes=(128,), mined_of=2)
    with pytest.raises(ValueError, match="expected both or none, found mined_of 2, mining_weights None"):
        EndlessWindows(CONFIG, mined, 1_000_000, 8)
    with pytest.raises(ValueError, match="gone.safetensors: expected pretrained weights"):
        EndlessWindows(CONFIG, mined, 1_000_000, 8, tmp_path / "gone.safetensors")
    box = pretrained_folder() / "tf_efficientnet_lite0.safetensors"
    with pytest.raises(ValueError, match="lite0.safetensors: expected a network of the same input"):
        EndlessWindows(CONFIG, mined, 1_000_000, 8, box)


def test_damaged_pretrained_weights_are_named(tmp_path):
    for suffix in (".safetensors", ".json"):
        content = (pretrained_folder() / "tf_efficientnet_lite0").with_suffix(suffix).read_bytes()
        (tmp_path / "weights").with_suffix(suffix).write_bytes(content[:5000] if suffix == ".safetensors" else content)
    with pytest.raises(ValueError, match="weights.safetensors: expected pretrained weights and their card"):
        read_pretrained(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("part", [62, 148])
def test_windows_that_do_not_fit_are_refused(part):
    with pytest.raises(
        ValueError, match=f"part {part}: expected a multiple of heatmap_stride, 4, and at most image_size"
    ):
        EndlessWindows(CONFIG, replace(PHANTOMS, part=part), 1_000_000, 8)


def test_epochs_go_on_where_the_one_before_ended(some):
    own = windows(8)
    for epoch, number in ((1, 0), (2, 3)):
        torch.testing.assert_close(own[epoch, number]["image"], some[8 * epoch + number]["image"], rtol=0, atol=0)
    assert own.name_of((2, 3)) == "phantom sample 19 of seed 1000000"


@pytest.mark.parametrize("n_scans", [1, 2, 4])
@pytest.mark.parametrize("per_scan", [1, 2, 6, 9, 16])
def test_scans_take_turns_and_each_is_drawn_once(per_scan, n_scans):
    """If the last scans that took turns are remembered."""
    places = [mixed(number, per_scan, n_scans) for number in range(400)]
    assert len(set(places)) == 400 and {sample for _, sample in places} == set(range(per_scan))
    if per_scan > 1:
        turns = [{scan for scan, _ in places[first : first + n_scans]} for first in range(0, 400, n_scans)]
        assert all(len(turn) == n_scans for turn in turns)
    recent, drawn = [], []
    for scan, _ in places:
        if scan not in recent:
            drawn.append(scan)
        recent = [*(other for other in recent if other != scan), scan][-n_scans:]
    assert len(drawn) == len(set(drawn))
    assert drawn == sorted(drawn)  # scans of a person come together


@pytest.mark.parametrize(("batch_size", "n_mixed"), [(2, 4), (6, 3), (8, 2), (32, 1)])
def test_small_batches_are_mixed_from_several_scans(batch_size, n_mixed):
    config = replace(CONFIG, training=replace(CONFIG.training, batch_size=batch_size))
    assert EndlessWindows(config, PHANTOMS, 1_000_000, 8).n_mixed == n_mixed  # 4 windows a scan


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_are_the_same_in_any_number_of_processes_and_in_order(some, workers):
    own = windows(8)
    batches = EpochBatches(8, 4, 1, ALONE, seed=5, order=own.order)
    loader: DataLoader = training_loader(own, batches, workers)
    for number, batch in enumerate(loader):
        expected = torch.stack([item["image"] for item in some[4 * number : 4 * number + 4]])
        torch.testing.assert_close(batch["image"], expected, rtol=0, atol=0)


@pytest.mark.slow
def test_the_loss_falls_on_windows_that_are_never_seen_twice():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    heads = replace(CONFIG.heads, neck_width=32)
    model = Stage1Net(ENCODER, heads, 64, n_slices=5).train()
    own, others = (EndlessWindows(replace(CONFIG, heads=heads), PHANTOMS, seed, 240) for seed in (1_000_003, 1_000_004))
    (unseen,) = DataLoader([others[0, i] for i in range(48)], batch_size=48)
    loss, optimizer = Stage1Loss(CONFIG.loss, heads), torch.optim.AdamW(model.parameters(), 2e-3)
    with torch.no_grad():
        before = loss(model, unseen).item()
    for batch in DataLoader([own[0, i] for i in range(240)], batch_size=16):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    with torch.no_grad():
        after = loss(model, unseen).item()
    assert after < 0.92 * before, (before, after)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """pretrain.py for two steps; the folder and its arguments."""
    folder = tmp_path_factory.mktemp("model")
    args = [
        "--encoder", ENCODER, "--weights", "none", "--device", "cpu", "--model_dir", str(folder), "--windows", "18",
        "--pretraining.every", "9", "--input.image_size", "144", "--input.crop", "[0.26, 0.74, 0.2, 0.68]",
        "--input.n_slices", "5", "--input.neighbour_mm", "1.5", "--heads.neck_width", "16",
        "--phantoms.part", "64", "--phantoms.sizes", "[128]", "--phantoms.sacs", "2", "--phantoms.slabs_per_sac", "1",
        "--phantoms.free_slabs", "0", "--phantoms.windows_per_slab", "2", "--training.batch_size", "4",
        "--training.workers", "0", "--training.warmup_epochs", "0", "--training.ema_decay", "0",
    ]  # fmt: skip
    run(args)
    return folder / "pretrained", args


def run(args: list[str]) -> None:
    pretrain.main(parse_config(pretrain.PretrainConfig, pretrain.__doc__, args))


def test_pretraining_writes_weights_in_float16_and_a_card_that_tells_what_they_are(trained):
    folder, _ = trained
    card = json.loads((folder / f"{ENCODER}.json").read_text())
    assert card["windows"] == 16 and card["phantom_seed"] == 1_000_000 and card["made_by"].startswith("python")
    assert "MIT" in card["licence"] and card["commit"] and card["config"]["stage1"]["encoder"] == ENCODER
    halved, config = load_stage1(folder / f"{ENCODER}.safetensors")
    whole, _ = load_stage1(folder / ENCODER / "last.pth")
    assert config.input.n_slices == 5 and config.heads.neck_width == 16
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(halved.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)
    images = torch.rand(2, 5, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(halved(images)["logits"], whole(images)["logits"], rtol=0.02, atol=0.02)
    size = (folder / f"{ENCODER}.safetensors").stat().st_size
    n_parameters = sum(tensor.numel() for tensor in whole.state_dict().values())
    assert size < 2.2 * n_parameters + 100_000  # two bytes each
    assert json.loads((folder / f"{ENCODER}.json").read_text())["config"]["n_windows"] == 16
    history = pd.read_csv(folder / ENCODER / "history.csv")
    assert len(history) == 2 and history.lr.iloc[-1] < 1e-6  # the learning rate has run out


def test_training_starts_from_encoder_neck_and_heads_of_the_file(trained):
    folder, _ = trained
    path = folder / f"{ENCODER}.safetensors"
    model = Stage1Net(ENCODER, replace(ModelConfig(), neck_width=16), 64, str(path), n_slices=5)
    n_encoder = len(model.encoder.state_dict())
    n_heads = len(model.state_dict()) - n_encoder
    assert f"encoder: {n_encoder} of {n_encoder} tensors" in model.weights_text
    assert f"heads: {n_heads} of {n_heads} tensors" in model.weights_text
    saved = read_pretrained(path)["weights"]
    assert all(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items())


def test_a_run_that_has_ended_can_be_resumed_and_changes_nothing(trained):
    folder, args = trained
    before = (folder / f"{ENCODER}.safetensors").read_bytes()
    run([*args, "--resume", "true"])
    assert (folder / f"{ENCODER}.safetensors").read_bytes() == before


def test_weights_without_their_card_are_refused_by_name(trained, tmp_path):
    folder, _ = trained
    path = tmp_path / "alone.safetensors"
    path.write_bytes((folder / f"{ENCODER}.safetensors").read_bytes())
    with pytest.raises(ValueError, match="alone.safetensors: expected pretrained weights and their card"):
        load_stage1(path)
