"""The presets of stage 2: each is a configuration that training accepts."""

from pathlib import Path

import pytest
import yaml

from aneurysm.config import parse_config
from aneurysm.stage2.model import Stage2Net
from aneurysm.stage2.tokens import check_tokens
from train_stage2 import TrainStage2Config

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "stage2").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_each_preset_is_a_configuration_whose_network_can_be_built(path):
    config, saved = parse_config(TrainStage2Config, "", ["--config", str(path)]), yaml.safe_load(path.read_text())
    assert config.net.width == saved["net"]["width"] and config.training.lr == saved["training"]["lr"]
    check_tokens(config.tokens)
    model = Stage2Net(config.net, config.tokens.inputs, n_features=1280)
    assert len(model.layers) == saved["net"]["depth"] and model.slice_head is not None
    assert config.training.batch_size % config.training.accumulate == 0
    assert path.read_text().startswith("# "), "a preset says what it is for"


def test_there_are_presets_for_a_few_hundred_series_and_for_some_thousand():
    assert {"demo", "base"} <= {path.stem for path in PRESETS}
