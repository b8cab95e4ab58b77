"""Where models lie below the model folder."""

from pathlib import Path

import pytest

from aneurysm.paths import ModelPaths


def test_each_encoder_and_fold_has_a_folder_of_its_own():
    paths = ModelPaths(Path("model"), "vit_base_patch16_dinov3.lvd1689m")
    assert paths.stage1(3) == Path("model/vit_base_patch16_dinov3.lvd1689m/fold-3/last.pth")
    assert paths.fold(None) == Path("model/vit_base_patch16_dinov3.lvd1689m/fold-none")
    assert paths.oof_stage1_csv == Path("model/vit_base_patch16_dinov3.lvd1689m/oof_stage1.csv")


def test_a_name_that_is_no_folder_name_gets_one():
    assert ModelPaths(Path("model"), "hf-hub:timm/some model").folder == Path("model/hf-hub_timm_some_model")


def test_the_only_encoder_need_not_be_named(tmp_path):
    (tmp_path / "convnext_atto" / "fold-1").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    assert ModelPaths.only_one(tmp_path, "") == ModelPaths(tmp_path, "convnext_atto")
    assert ModelPaths.only_one(tmp_path, "another") == ModelPaths(tmp_path, "another")


def test_the_models_of_the_second_system_are_no_encoders(tmp_path):
    for name in ("convnext_atto", "volume3d"):
        (tmp_path / name / "fold-0").mkdir(parents=True)
    assert ModelPaths.only_one(tmp_path, "").encoder == "convnext_atto"


def test_none_or_several_encoders_are_an_error_that_names_them(tmp_path):
    with pytest.raises(ValueError, match="expected one encoder or --encoder, found none"):
        ModelPaths.only_one(tmp_path / "nowhere", "")
    for name in ("b", "a"):
        (tmp_path / name / "fold-none").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{tmp_path}: expected one encoder or --encoder, found a, b"):
        ModelPaths.only_one(tmp_path, "")
