"""What the pages name exists: scripts, modules, flags, presets, make targets and files."""

import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (".", "benchmarks", "docs", "kaggle", "volume3d")
PAGES = [page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md"))]
MADE_BY_RUNNING = ("bundle/", "data/", "demo/", "model/", "report/", "series/", "segmentations/", "npy_", "train")
OTHERS = {"venv", "pip"}  # modules of Python's own
OTHER_PROGRAMS = {
    "torchrun": "-m torch.distributed.run", "dask scheduler": "-m dask scheduler", "dask worker": "-m dask worker"
}  # fmt: skip
FLAG = r"--\w[\w.-]*\w"
DASK = re.compile(r"(dask (?:scheduler|worker))([^\n`&|>]*)")
COMMAND = re.compile(r"(?:python|(torchrun)((?: --\w+[ =]\S+)*)) (-m [\w.]+|(?:[\w-]+/)*[\w-]+\.py)([^\n`&|]*)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def flags_of(command: str) -> set[str]:
    """Every flag in the help of `script.py`, `-m package.module` or OTHER_PROGRAMS; run here, torch is loaded once."""
    words = OTHER_PROGRAMS.get(command, command).split()
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(sys, "argv", [*words[1:], "--help"] if words[0] == "-m" else [*words, "--help"])
        try:
            if words[0] == "-m":
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except SystemExit as end:
            assert not end.code, command
    return set(re.findall(FLAG, output.getvalue()))


def commands(page: Path) -> set[tuple[str, str]]:
    """(what runs, the rest of the line) of every command with python, torchrun or dask; torchrun with its own flags."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    found = set(DASK.findall(text))
    for torchrun, own, command, rest in COMMAND.findall(text):
        if torchrun:
            found.add(("torchrun", own))
        if command.removeprefix("-m ") not in OTHERS:
            found.add((command, rest.split("#")[0]))
    return found


def flags_named(page: Path) -> dict[str, set[str]]:
    """The flags that the page shows each command with; what is shown with none may have no --help."""
    found: dict[str, set[str]] = {}
    for command, rest in commands(page):
        found.setdefault(command, set()).update(re.findall(FLAG, rest))
    return found


@cache
def file_names() -> set[str]:
    """Of all files of the repository that are no tests, without their folders."""
    folders = ("aneurysm", "volume3d", "scripts", "kaggle", "benchmarks", "configs", "content")
    return {path.name for folder in folders for path in (ROOT / folder).rglob("*.*")}


def is_there(command: str) -> bool:
    module = command.removeprefix("-m ").removeprefix("aneurysm_scripts.").replace(".", "/") + ".py"
    module = module if command.startswith("-m ") else command
    return command in OTHER_PROGRAMS or (ROOT / module).exists()


def test_commands_are_found_in_the_pages_however_they_are_written():
    assert {command for command, _ in commands(ROOT / "README.md")} >= {"make_phantoms.py", "scripts/summary.py"}
    cloud = commands(ROOT / "docs" / "cloud.md")
    assert {command for command, _ in cloud} >= {
        "torchrun",
        "train_stage1.py",
        "-m volume3d.train",
        "preprocess_data.py",
    }
    assert ("torchrun", " --nproc_per_node 8") in cloud
    assert any("--training.sync s3://" in rest for command, rest in cloud if command == "train_stage1.py")


@each_page
def test_a_page_names_only_what_exists(page):
    commands_exist(page)
    presets_exist(page)
    flags_exist(page)
    make_targets_exist(page)
    files_exist(page)
    headings_exist(page)


def commands_exist(page: Path) -> None:
    for command, named in flags_named(page).items():
        assert is_there(command), command
        assert not named or named <= flags_of(command), (command, named - flags_of(command))


def presets_exist(page: Path) -> None:
    for command, rest in commands(page):
        for preset in re.findall(r"--config (\S+)", rest):
            assert (ROOT / preset).exists() or (ROOT / "configs" / f"{preset}.yaml").exists(), f"{command}: {preset}"


def flags_exist(page: Path) -> None:
    """Those in the text belong to a command that the page, the README or the page on the steps shows with flags."""
    pages = [page, ROOT / "README.md", ROOT / "docs" / "steps.md"]
    shown = [(command, named) for each in pages for command, named in flags_named(each).items()]
    known = {flag for command, named in shown if named for flag in flags_of(command)}
    named = set(re.findall(f"`({FLAG})", page.read_text()))
    assert named <= known, named - known


def make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {a or b for a, b in re.findall(r"`make ([\w-]+)`|^ *make ([\w-]+)", page.read_text(), re.M)}
    assert named <= targets and (named or page != ROOT / "README.md")


def files_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"\]\(([^)#]+)\)", text):
        assert name.startswith(("http", *MADE_BY_RUNNING)) or (page.parent / name).exists(), name
    for name in re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|yaml|toml|txt|png|sh|ipynb))`", text):
        there = (ROOT / name).exists() or (page.parent / name).exists() or "/" not in name and name in file_names()
        assert name.startswith(MADE_BY_RUNNING) or there, name


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def headings_exist(page: Path) -> None:
    for name, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        assert anchor in headings(page.parent / name if name else page), f"{name}#{anchor}"
