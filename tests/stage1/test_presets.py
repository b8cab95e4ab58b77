"""The presets of stage 1: each is a configuration that training accepts."""

from pathlib import Path

import pytest
import timm
import yaml

from aneurysm.cache.windows import crop_box
from aneurysm.config import parse_config
from aneurysm.stage1.endless import EndlessWindows
from aneurysm.stage1.weights import LITE0
from pretrain import PretrainConfig
from train_stage1 import TrainStage1Config

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "stage1").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_each_preset_is_a_configuration_of_training_with_an_encoder_that_timm_knows(path):
    config, saved = parse_config(TrainStage1Config, "", ["--config", str(path)]), yaml.safe_load(path.read_text())
    assert timm.is_model(config.encoder) and config.encoder == saved["encoder"]
    assert config.input.image_size == saved["input"]["image_size"] and config.training.lr == saved["training"]["lr"]
    assert config.input.image_size % config.heads.heatmap_stride == 0
    assert config.training.batch_size % config.training.accumulate == 0
    assert crop_box(config.input, "axial").width > 0 and config.sampling.shift_mm <= config.sampling.label_mm
    assert path.read_text().startswith("# "), "a preset says what it is for"


def test_the_preset_of_pretraining_begins_with_weights_that_need_no_internet_and_its_windows_fit():
    path = PRESETS[0].parents[1] / "pretrain" / "lite0.yaml"
    config, saved = parse_config(PretrainConfig, "", ["--config", str(path)]), yaml.safe_load(path.read_text())
    assert config.weights == LITE0 and config.input.n_slices == saved["input"]["n_slices"]
    windows = EndlessWindows(config, config.phantoms, config.pretraining.seed, config.pretraining.every)
    assert len(windows) == config.pretraining.every


def test_there_are_presets_for_two_cores_for_16_gb_and_for_a_large_gpu():
    assert {"demo", "t4", "convnext_base", "vit_base"} <= {path.stem for path in PRESETS}
