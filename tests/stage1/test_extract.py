"""Features of whole series: what stage 1 says, in the image as it is and in the mirrored one, kept in a file each."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aneurysm.cache.cache import open_cache
from aneurysm.cache.features import SeriesFeatures, made_from, read_features, read_sampling, write_features
from aneurysm.cache.windows import crop_box, read_window
from aneurysm.dicom.mapping import SIZE
from aneurysm.lock import locked
from aneurysm.stage1.config import ExtractSettings, InputConfig, ModelConfig, Stage1Config
from aneurysm.stage1.extract import PARTS, Encoder, by_series, extract, fingerprints, out_of_date
from aneurysm.stage1.model import Stage1Net
from aneurysm.stage1.predict import heatmap_peaks
from aneurysm.training.checkpoint import save_checkpoint
from tests.stage1_cache import HEADS, N_SLICES, dot, write_data, write_series

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
# Crops that are their own mirror image to the pixel, and slices in full float32.
CONFIG = Stage1Config(
    encoder="mobilenetv4_conv_small",
    input=InputConfig(
        image_size=64, crop=(0.125, 0.875, 0.1, 0.8), crop_upright=(0.125, 0.875, 0.2, 1.0), neighbour_mm=3
    ),
    heads=ModelConfig(drop_rate=0, heatmap_stride=8),
)


@pytest.fixture(scope="module")
def model() -> Stage1Net:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = Stage1Net(CONFIG.encoder, CONFIG.heads, CONFIG.input.image_size).eval()
    torch.nn.init.normal_(made.heatmap.aneurysm.weight, std=2.0)  # so that its maps have peaks
    return made


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_data(root)
    return root


def features_of(data_dir: Path, uid: str, model: Stage1Net, **encoder) -> SeriesFeatures:
    found = dict(extract(open_cache(data_dir), [uid], Encoder(model, CONFIG, CPU, **encoder), 0, 5, 0))
    return found[uid]


@pytest.mark.usefixtures("native_format")
@pytest.mark.parametrize("uid", ["s0", "s4"])
def test_the_features_of_a_slice_are_what_the_model_says_about_its_window(data_dir, model, uid):
    cache, features = open_cache(data_dir), features_of(data_dir, uid, model)
    box = crop_box(CONFIG.input, cache.meta(uid)["plane"])
    for index in (0, 3, N_SLICES - 1):
        window = torch.from_numpy(read_window(cache, uid, index, 3, box)).permute(2, 0, 1)[None]
        with torch.no_grad():
            prediction = model(window)
        highest, _ = heatmap_peaks(prediction["heatmap"].sigmoid(), CONFIG.heads.heatmap_stride)
        np.testing.assert_allclose(features.logits[0, index], prediction["logits"][0], atol=0.02, rtol=0.01)
        np.testing.assert_allclose(features.features[0, index], prediction["features"][0], atol=0.02, rtol=0.01)
        np.testing.assert_allclose(
            features.heatmap_max[0, index], torch.logit(highest[0], eps=1e-6), atol=0.02, rtol=0.01
        )
    assert features.slice.tolist() == list(range(N_SLICES)) and features.views == ("original", "mirror")
    np.testing.assert_allclose(features.depth_mm, cache.position_mm(uid)[-1] - cache.position_mm(uid))


class OnePeak(torch.nn.Module):
    """Sees each label in the third column and sixth row of its map, whatever the image."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        heatmap = torch.full((len(images), 14, 8, 8), -40.0)
        heatmap[:, :, 5, 2] = 2.0
        return {"features": torch.zeros(len(images), 4), "logits": torch.zeros(len(images), 14), "heatmap": heatmap}


@pytest.mark.parametrize(("plane", "mirrored_x"), [("axial", 192 + 2.5 * 24), ("sagittal", 128 + 2.5 * 24)])
def test_peaks_are_told_as_shares_of_the_whole_image_and_of_its_mirror_image(plane, mirrored_x):
    """The crop has 192 x 384 cached pixels from (128, 64) on, 24 x 48 a heatmap pixel. In the mirror image it lies from
    512 - 128 - 192 = 192 on; a sagittal image stays as it is."""
    crop = (0.25, 0.625, 0.125, 0.875)
    config = replace(CONFIG, input=replace(CONFIG.input, crop=crop, crop_upright=crop))
    rows = Encoder(OnePeak(), config, CPU)(torch.zeros(2, 3, 64, 64), [plane] * 2)
    assert rows["peak_x"].shape == rows["peak_y"].shape == (2, 2, 14)  # windows, views, maps
    np.testing.assert_allclose(512 * rows["peak_x"][:, 0], 128 + 2.5 * 24, atol=0.2)
    np.testing.assert_allclose(512 * rows["peak_x"][:, 1], mirrored_x, atol=0.2)
    np.testing.assert_allclose(512 * rows["peak_y"], 64 + 5.5 * 48, atol=0.2)
    np.testing.assert_allclose(rows["heatmap_max"], 2.0, atol=0.01)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_mirror_view_is_what_is_said_about_the_mirrored_head(tmp_path, model, plane):
    rng = np.random.default_rng(1)
    head = 0.3 * rng.random((6, SIZE, SIZE)) + np.stack([0.6 * dot(150 + 30 * i, 260, 9) for i in range(6)])
    position_mm = np.array([0, 3, 6, 9, 13, 16.0])
    mirrored, turned = (head[..., ::-1], position_mm) if plane != "sagittal" else (head[::-1], -position_mm[::-1])
    write_series(tmp_path, "head", head, position_mm, plane)
    write_series(tmp_path, "mirrored", mirrored, turned, plane)
    mirror = features_of(tmp_path, "head", model, views=("mirror",))
    original = features_of(tmp_path, "mirrored", model, views=("original",))
    for part in PARTS:
        expected = getattr(original, part)[0]
        expected = expected[::-1] if plane == "sagittal" else expected
        np.testing.assert_allclose(getattr(mirror, part)[0], expected, atol=3e-3, rtol=0.01, err_msg=part)
    both = features_of(tmp_path, "head", model)
    assert np.abs(both.logits[0].astype(float) - both.logits[1]).max() > 0.01  # the model does see a difference


@pytest.mark.usefixtures("native_format")
def test_batches_that_run_on_from_series_to_series_give_the_same_as_series_alone(data_dir, model):
    uids = ["s0", "s4", "s1"]
    together = dict(extract(open_cache(data_dir), uids, Encoder(model, CONFIG, CPU), 4.0, 7, 0))
    assert list(together) == uids
    for uid in uids:
        alone = dict(extract(open_cache(data_dir), [uid], Encoder(model, CONFIG, CPU), 4.0, 16, 0))[uid]
        for part in PARTS:
            np.testing.assert_allclose(getattr(together[uid], part), getattr(alone, part), atol=0.02, rtol=0.01)


def test_no_more_than_the_series_in_the_batch_at_hand_are_held():
    n_windows = {str(i): 3 for i in range(50)}
    owners = [uid for uid in n_windows for _ in range(3)]
    held = []

    def batches():
        for start in range(0, 150, 4):
            held.append(start)
            rows = {name: np.full((len(owners[start : start + 4]), 1, 2), start) for name in PARTS}
            yield rows, owners[start : start + 4]

    for number, (uid, rows) in enumerate(by_series(batches(), n_windows)):
        assert uid == str(number) and rows["logits"].shape == (3, 1, 2)
        assert held[-1] <= 3 * number + 3  # a series comes out with the batch that completes it


def test_slices_are_sampled_by_millimetres(data_dir, model):
    features = dict(extract(open_cache(data_dir), ["s0"], Encoder(model, CONFIG, CPU, ("original",)), 9.0, 8, 0))["s0"]
    assert features.slice.tolist() == [0, 3, 6, 9, 12, 15]  # 3 mm apart


def test_a_model_without_heatmaps_leaves_them_open(data_dir):
    config = replace(CONFIG, heads=ModelConfig(heatmap_weight=0))
    model = Stage1Net(config.encoder, config.heads, config.input.image_size).eval()
    features = dict(extract(open_cache(data_dir), ["s0"], Encoder(model, config, CPU), 9.0, 8, 0))["s0"]
    assert (
        np.isnan(features.heatmap_max).all() and np.isnan(features.peak_x).all() and np.isfinite(features.logits).all()
    )


def test_a_file_gives_back_what_was_written_and_names_itself_when_damaged(data_dir, model, tmp_path):
    features, path = features_of(data_dir, "s0", model), tmp_path / "f" / "s0.safetensors"
    write_features(path, features, "print")
    read = read_features(path)
    assert read.views == features.views and made_from(path) == "print"
    assert read.slice_spacing_mm == features.slice_spacing_mm == 0 and read_sampling(path)["slice_spacing_mm"] == 0
    write_features(path, replace(features, slice_spacing_mm=None), "print")  # as files of before it was kept
    assert read_features(path).slice_spacing_mm is None
    for part in (*PARTS, "slice", "position_mm", "depth_mm"):
        assert np.array_equal(getattr(read, part), getattr(features, part)), part
        assert getattr(read, part).dtype == getattr(features, part).dtype
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"s0\.safetensors"):
        read_features(path)
    assert made_from(path) is None and made_from(tmp_path / "none") is None
    with pytest.raises(ValueError, match="logits: expected"):
        replace(features, logits=features.logits[:, :-1])


def test_features_are_made_anew_when_weights_slices_or_settings_change(data_dir, model, tmp_path):
    cache, checkpoint, folder = open_cache(data_dir), tmp_path / "last.pth", tmp_path / "features"
    checkpoint.write_bytes(b"some weights")
    settings = ExtractSettings(slice_spacing_mm=1.5, views=("original",))
    wanted = fingerprints(cache, ["s0", "s1"], checkpoint, settings)
    assert out_of_date(folder, wanted) == ["s0", "s1"]
    write_features(folder / "s0.safetensors", features_of(data_dir, "s0", model), wanted["s0"])
    assert out_of_date(folder, wanted) == ["s1"]
    for other in ({"slice_spacing_mm": 2.0}, {"views": ("mirror",)}, {"precision": "bf16"}):
        assert out_of_date(folder, fingerprints(cache, ["s0"], checkpoint, replace(settings, **other))) == ["s0"]
    faster = replace(settings, batch_size=7, workers=5)
    assert out_of_date(folder, fingerprints(cache, ["s0"], checkpoint, faster)) == []
    checkpoint.write_bytes(b"other weights")
    assert out_of_date(folder, fingerprints(cache, ["s0"], checkpoint, settings)) == ["s0"]


def test_a_cpu_encodes_in_bfloat16_only_where_a_flag_asks_for_it(data_dir, model):
    exact, asked = features_of(data_dir, "s0", model), features_of(data_dir, "s0", model, precision="bf16")
    difference = np.abs(exact.logits.astype(float) - asked.logits).max()
    assert 0 < difference < 0.1 * np.abs(exact.logits.astype(float)).max()  # 8 bits of mantissa through 50 layers


def test_unknown_views_are_refused(model):
    with pytest.raises(ValueError, match="upside down"):
        Encoder(model, CONFIG, CPU, ("upside down",))


def test_the_script_writes_a_file_a_series_and_goes_on_where_it_stopped(data_dir, model, tmp_path):
    for fold in (0, 1):
        about = {"stage1": asdict(CONFIG), "fold": fold}
        save_checkpoint(tmp_path / CONFIG.encoder / f"fold-{fold}" / "last.pth", model, about, {}, 1)
    command = [sys.executable, "extract_features.py", "--data_dir", str(data_dir), "--model_dir", str(tmp_path)]
    command += ["--folds", "2", "--slice_spacing_mm", "12", "--workers", "0"]

    def run(*flags: str) -> str:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        result = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout

    own = {uid for uid, fold, *_ in HEADS if fold == 1 and uid != "missing"}
    folders = [tmp_path / CONFIG.encoder / f"fold-{fold}" / "features" for fold in (0, 1)]
    assert f"{len(own)} series (0 cached before), 1 are not in the cache" in run("--fold", "1")
    assert {path.stem for path in folders[1].iterdir()} == own
    assert f"6 series ({len(own)} cached before)" in run("--fold", "all", "--own_fold", "false")
    assert all(len(list(folder.iterdir())) == 6 for folder in folders)
    assert read_features(folders[0] / "s0.safetensors").slice.tolist() == [
        0,
        4,
        8,
        12,
        15,
    ]  # at 100, 112, ... and, nearest to 148, 145 mm


def test_two_processes_of_one_run_share_the_work_and_a_second_run_is_turned_away(data_dir, model, tmp_path):
    fold = tmp_path / CONFIG.encoder / "fold-0"
    save_checkpoint(fold / "last.pth", model, {"stage1": asdict(CONFIG), "fold": 0}, {}, 1)
    script = ["extract_features.py", "--data_dir", str(data_dir), "--model_dir", str(tmp_path), "--device", "cpu"]
    script += ["--folds", "2", "--fold", "0", "--own_fold", "false", "--slice_spacing_mm", "12", "--workers", "0"]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    how = {"cwd": ROOT, "capture_output": True, "text": True, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    result = subprocess.run([sys.executable, *several, *script], **how)
    assert result.returncode == 0 and len(list((fold / "features").iterdir())) == 6, result.stderr
    with locked(fold, "extract_features"):
        result = subprocess.run([sys.executable, *script], **how)
    assert result.returncode == 1 and f"error: {fold}: expected no other run" in result.stderr
