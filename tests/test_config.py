"""Configurations: default < preset < flag, and a misspelt name ends the program."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from aneurysm.config import parse_config


@dataclass(frozen=True)
class Config:
    data_dir: Path = Path("data")
    """folder of the data"""
    slices: bool = True
    """write slice files"""
    head_mm: float = 180.0
    """how much of the head is kept"""


def test_defaults_hold_where_nothing_is_said():
    assert parse_config(Config, "doc", []) == Config()


def test_a_preset_overrules_defaults_and_a_flag_overrules_the_preset(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("head_mm: 120\nslices: false\n")
    config = parse_config(Config, "doc", ["--config", str(preset), "--head_mm", "90"])
    assert config == Config(head_mm=90.0, slices=False)


@pytest.mark.parametrize("args", [["--head_mn", "1"], ["--head_mm", "much"], ["--slices", "maybe"]])
def test_a_misspelt_flag_or_an_ill_typed_value_ends_the_program_with_code_2(args):
    with pytest.raises(SystemExit) as stop:
        parse_config(Config, "doc", args)
    assert stop.value.code == 2


def test_a_misspelt_name_in_a_preset_ends_the_program(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("head_mn: 120\n")
    with pytest.raises(SystemExit):
        parse_config(Config, "doc", ["--config", str(preset)])


def test_help_shows_the_script_and_every_field_with_its_words(capsys):
    with pytest.raises(SystemExit):
        parse_config(Config, "Step 1: does it.", ["--help"])
    shown = capsys.readouterr().out
    for words in (
        "Step 1: does it.",
        "--data_dir",
        "folder of the data",
        "--slices {true,false}",
        "how much of the head",
    ):
        assert words in shown
