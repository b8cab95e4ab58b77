"""What `pip install` brings: commands, presets, pages, weights, no more; version, commit and extras when installed."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

from aneurysm import package
from aneurysm.config import parse_config, run_script
from aneurysm.parallel import run_on_dask
from aneurysm.training import tracking
from train_stage1 import TrainStage1Config

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = PROJECT["project"]["scripts"]
WEIGHTS = [path for name in ("pretrained", "bundle") for path in (ROOT / "model" / name).glob("*.*")]
# A notebook's code, set by environment variables, and what makes this repository's own pages.
NOT_COMMANDS = {"kaggle_inference.py", "file_map.py"}


def source(module: str) -> Path:
    """The file of the clone that pyproject.toml installs as `module`."""
    package, _, name = module.rpartition(".")
    folders = PROJECT["tool"]["setuptools"]["package-dir"]
    mapped = next((part for part in sorted(folders, reverse=True) if f"{package}.".startswith(f"{part}.")), None)
    rest = package.removeprefix(mapped).split(".") if mapped else package.split(".")
    return ROOT.joinpath(folders.get(mapped, "."), *rest, f"{name}.py")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_function_of_a_script_that_shows_its_own_line(name, monkeypatch, capsys):
    module, _, function = COMMANDS[name].partition(":")
    scripts = ModuleType("aneurysm_scripts")
    scripts.__path__ = [str(ROOT)]  # as pyproject.toml maps it
    monkeypatch.setitem(sys.modules, "aneurysm_scripts", scripts)
    script = import_module(module)
    assert Path(script.__file__) == source(module)
    monkeypatch.setattr(sys, "argv", [f"/bin/{name}", "--help"])
    with pytest.raises(SystemExit) as stop:
        getattr(script, function)()
    help_text = capsys.readouterr().out
    assert not stop.value.code and help_text.startswith(f"usage: {name} ")
    assert f"\n    {name} " in help_text and "\n    python" not in help_text
    assert re.findall(r"torchrun .*", help_text) == re.findall(rf"torchrun .* -m {re.escape(module)} .*", help_text)


def test_every_script_with_a_configuration_is_a_command():
    scripts = [*ROOT.glob("*.py"), *ROOT.glob("scripts/*.py"), *ROOT.glob("volume3d/*.py")]
    runnable = {path for path in scripts if "__main__" in path.read_text() and path.name not in NOT_COMMANDS}
    assert {source(target.partition(":")[0]) for target in COMMANDS.values()} == runnable


def test_every_folder_of_code_is_a_package_that_is_installed():
    packages = set(PROJECT["tool"]["setuptools"]["packages"])
    folders = {path.parent for top in ("aneurysm", "volume3d") for path in (ROOT / top).rglob("*.py")}
    mapped = {"aneurysm_scripts", "aneurysm_scripts.scripts", "aneurysm.configs", "aneurysm.pretrained"}
    mapped |= {"aneurysm.bundle"}
    assert packages == {".".join(folder.relative_to(ROOT).parts) for folder in folders} | mapped


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with a copy of the clone, and wheel/ and editable/ with what pip makes of it, unpacked."""
    if find_spec("setuptools") is None:
        pytest.skip("setuptools, which builds wheels, is not installed")
    folder = tmp_path_factory.mktemp("built")
    for name in ("aneurysm", "benchmarks", "configs", "scripts", "tests", "volume3d"):
        shutil.copytree(ROOT / name, folder / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in WEIGHTS:
        to = folder / "clone" / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    for path in ROOT.glob("[!.]*.*"):
        if path.is_file():
            shutil.copy(path, folder / "clone")
    for kind in ("wheel", "editable"):
        (folder / kind).mkdir()
        command = f"from setuptools import build_meta; build_meta.build_{kind}('../{kind}')"
        subprocess.run([sys.executable, "-c", command], cwd=folder / "clone", check=True, capture_output=True)
        (archive,) = (folder / kind).glob("aneurysm-*.whl")
        ZipFile(archive).extractall(folder / kind)
        archive.unlink()
    return folder


def test_the_wheel_holds_code_presets_pages_and_weights_and_nothing_else(built):
    found = {path.relative_to(built / "wheel").as_posix() for path in (built / "wheel").rglob("*") if path.is_file()}
    pages = [path for kind in ("html", "css", "js") for path in (ROOT / "aneurysm").rglob(f"*.{kind}")]
    code = [path for top in ("aneurysm", "volume3d") for path in (ROOT / top).rglob("*.py")]
    own = {path.relative_to(ROOT).as_posix() for path in code + pages}
    presets = {f"aneurysm/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("configs/*/*.yaml")}
    scripts = {path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.py"), *ROOT.glob("scripts/*.py")]}
    weights = {f"aneurysm/{path.parent.name}/{path.name}" for path in WEIGHTS}
    assert {name for name in found if ".dist-info/" not in name} == own | presets | weights | {
        f"aneurysm_scripts/{name}" for name in scripts
    }
    assert {
        "aneurysm/report/style.css",
        "aneurysm/report/index.html",
    } < own and "aneurysm/configs/stage1/demo.yaml" in presets


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_each_command_is_found_after_either_kind_of_install(built, kind, tmp_path):
    modules = [target.partition(":")[0] for target in COMMANDS.values()]
    code = (
        "import site, sys; from importlib.util import find_spec; site.addsitedir(sys.argv[1])\n"
        "for name in sys.argv[2:]: print(find_spec(name).origin)"
    )
    command = [sys.executable, "-I", "-S", "-c", code, built / kind, *modules]  # no other packages
    run = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    of_clone = {path.relative_to(ROOT) for path in map(source, modules)}
    found = {Path(line) for line in run.stdout.splitlines()}
    if kind == "editable":
        assert found == {built / "clone" / path for path in of_clone}
    else:
        assert {path.name for path in found} == {path.name for path in of_clone}
        assert all(path.is_relative_to(built / "wheel") for path in found)


def test_a_preset_is_found_by_its_path_and_from_any_folder_by_its_name(tmp_path, monkeypatch):
    demo = ROOT / "configs" / "stage1" / "demo.yaml"
    of_preset = parse_config(TrainStage1Config, "doc", ["--config", str(demo)])
    monkeypatch.chdir(tmp_path)
    for name in ("stage1/demo", "configs/stage1/demo.yaml", "stage1/demo.yaml"):
        assert parse_config(TrainStage1Config, "doc", [f"--config={name}"]) == of_preset != TrainStage1Config()
    (tmp_path / "stage1").mkdir()
    (tmp_path / "stage1" / "demo").write_text("encoder: own\n")
    assert parse_config(TrainStage1Config, "doc", ["--config", "stage1/demo"]).encoder == "own"


def test_a_preset_that_is_not_there_ends_the_program_and_those_that_are_are_named(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_config(TrainStage1Config, "doc", ["--config", "stage1/dmo"])
    output = capsys.readouterr().err
    assert (
        stop.value.code == 2
        and "stage1/dmo: expected a file or one of " in output
        and "stage1/demo, stage1/t4" in output
    )


def test_the_presets_of_an_installed_package_lie_inside_it(tmp_path, monkeypatch):
    preset = tmp_path / "aneurysm" / "configs" / "stage1" / "mine.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text("encoder: own\n")
    monkeypatch.setattr(package, "PACKAGE", tmp_path / "aneurysm")
    assert package.preset_path("stage1/mine") == preset


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The package as if it lay in an environment inside somebody else's repository."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(
        [
            "git",
            "-C",
            tmp_path,
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "a",
        ],
        check=True,
    )
    monkeypatch.setattr(package, "CLONE", tmp_path / "site-packages")
    (tmp_path / "site-packages").mkdir()
    package._commit.cache_clear()
    yield tmp_path
    package._commit.cache_clear()


def test_an_installed_package_tells_its_version_and_not_the_commit_of_another_repository(elsewhere, monkeypatch):
    monkeypatch.setattr(package.metadata, "version", lambda name: {"aneurysm": "4.5.6"}[name])
    assert package.version() == package.code_version() == "4.5.6"


def test_a_clone_tells_its_commit_whether_it_is_installed_or_not(elsewhere, monkeypatch):
    head = subprocess.run(
        ["git", "-C", elsewhere, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    monkeypatch.setattr(package, "CLONE", elsewhere)
    monkeypatch.setattr(package.metadata, "version", lambda _: "4.5.6")
    assert (package.version(), package.code_version()) == (f"4.5.6, commit {head}", head)
    monkeypatch.setattr(package.metadata, "version", not_installed)
    assert (package.version(), package.code_version()) == (f"not installed, commit {head}", head)


def test_a_package_that_was_copied_by_hand_says_that_nothing_is_known(elsewhere, monkeypatch):
    monkeypatch.setattr(package.metadata, "version", not_installed)
    assert (package.version(), package.code_version()) == ("not installed", "unknown")


def not_installed(name: str) -> str:
    raise package.metadata.PackageNotFoundError(name)


def test_every_script_prints_the_version(monkeypatch, capsys):
    monkeypatch.setattr("aneurysm.config.version", lambda: "4.5.6, commit abc")
    monkeypatch.setattr(sys, "argv", ["/bin/aneurysm-predict", "--version"])
    with pytest.raises(SystemExit) as stop:
        run_script(lambda _: None, TrainStage1Config, "doc")
    assert stop.value.code == 0 and capsys.readouterr().out == "aneurysm-predict 4.5.6, commit abc\n"


@pytest.mark.parametrize(
    ("module", "predict", "extra"),
    [
        ("dask.distributed", lambda: list(run_on_dask(len, ["a"], len, "tcp://nowhere:1")), "dask"),
        ("torch.utils.tensorboard", lambda: tracking._tensorboard(Path("nowhere")), "tracking"),
        ("wandb", lambda: tracking._wandb(Path("nowhere"), {}), "tracking"),
    ],
)
def test_a_missing_extra_is_an_error_that_names_it(module, predict, extra, monkeypatch):
    assert extra in PROJECT["project"]["optional-dependencies"]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"the extra `{extra}`, found .*pip install -e \.\[{extra}\]"):
        predict()
