"""Configurations: default < preset < flag, and a misspelt name ends the program."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from aneurysm.config import from_saved, parse_config, run_script, subset


@dataclass(frozen=True)
class Config:
    data_dir: Path = Path("data")
    """folder of the data"""
    slices: bool = True
    """write slice files"""
    head_mm: float = 180.0
    """how much of the head is kept"""


@dataclass(frozen=True)
class Model:
    width: int = 8
    """channels"""
    crop: tuple[float, float] = (0.1, 0.9)
    """left and right"""
    fast: bool = False
    """less precise"""


@dataclass(frozen=True)
class Experiment:
    model: Model = field(default_factory=Model)
    seed: int = 0
    """of all that is random"""


@dataclass(frozen=True)
class Script(Experiment):
    resume: bool = False
    """go on"""
    fold: str = "all"
    """a number, or all"""


@dataclass(frozen=True)
class Asking:
    paths: tuple[Path, ...]
    """what to look at"""
    out: Path = Path("report")
    """where to write"""
    resume: bool = False
    """go on"""


def test_words_that_belong_to_no_flag_are_the_field_that_is_named(capsys):
    expected = Asking((Path("a.zip"), Path("b")), Path("c"), resume=True)
    for args in ("a.zip b --out c --resume", "--resume --out c a.zip b", "--out c --resume true a.zip b"):
        assert parse_config(Asking, "doc", args.split(), named="paths") == expected
    with pytest.raises(SystemExit) as stop:
        parse_config(Asking, "doc", ["--out", "c"], named="paths")
    assert stop.value.code == 2
    with pytest.raises(SystemExit):
        parse_config(Asking, "doc", ["--help"], named="paths")
    assert "what to look at" in capsys.readouterr().out


def test_what_main_returns_is_the_exit_code(monkeypatch):
    monkeypatch.setattr("sys.argv", ["script"])
    for code in (None, 3):
        with pytest.raises(SystemExit) as stop:
            run_script(lambda _, code=code: code, Config, "doc")
        assert stop.value.code == code


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


@pytest.mark.parametrize("crop", ["0.2,0.7", "[0.2, 0.7]"])
def test_lists_may_be_written_with_commas_alone(crop):
    assert parse_config(Experiment, "doc", ["--model.crop", crop]).model.crop == (0.2, 0.7)


@pytest.mark.parametrize(
    ("args", "resume", "fast"),
    [
        ([], False, False),
        (["--resume"], True, False),
        (["--resume", "--seed", "3"], True, False),
        (["--model.fast", "--resume", "false"], False, True),
        (["--fold", "0", "--resume", "true", "--model.fast"], True, True),
        (["--resume=false"], False, False),
    ],
)
def test_a_switch_that_stands_alone_means_true_also_one_of_a_part(args, resume, fast):
    config = parse_config(Script, "doc", args)
    assert (config.resume, config.model.fast) == (resume, fast)


def test_a_word_that_follows_a_flag_with_a_value_is_that_value():
    assert parse_config(Script, "doc", ["--fold", "2", "--resume"]) == Script(fold="2", resume=True)


def test_a_part_of_a_preset_leaves_the_rest_of_that_part_alone(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("model:\n  crop: [0.2, 0.8]\n")
    config = parse_config(Script, "doc", ["--config", str(preset), "--model.width", "16"])
    assert config.model == Model(width=16, crop=(0.2, 0.8))


def test_a_saved_configuration_comes_back_equal_and_names_that_it_lacks_get_their_defaults():
    config = Experiment(Model(width=4, crop=(0.3, 0.7)), seed=5)
    saved = asdict(config)
    assert from_saved(Experiment, saved) == config
    saved["model"]["crop"] = [0.3, 0.7]  # as JSON has it
    assert from_saved(Experiment, saved) == config
    assert from_saved(Experiment, {"model": {"width": 4}}) == Experiment(Model(width=4))


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"sead": 1}, "Experiment: expected model, seed, found sead"),
        ({"model": {"wide": 1}}, "Model: expected width, crop, fast, found wide"),
    ],
)
def test_an_unknown_name_in_a_saved_configuration_is_named_with_the_known_ones(saved, words):
    with pytest.raises(ValueError, match=words):
        from_saved(Experiment, saved)


def test_the_part_that_a_scripts_configuration_inherits_is_taken_out_of_it():
    script = Script(Model(width=4), seed=5, resume=True)
    part = subset(Experiment, script)
    assert type(part) is Experiment and part == Experiment(Model(width=4), seed=5)


def test_bad_input_ends_a_script_with_one_line_and_code_1(monkeypatch):
    def main(config: Config) -> None:
        raise ValueError(f"{config.data_dir}: nothing there")

    monkeypatch.setattr("sys.argv", ["script.py", "--data_dir", "here"])
    with pytest.raises(SystemExit, match="^error: here: nothing there$"):  # a text as its code is printed, code 1
        run_script(main, Config, "doc")
