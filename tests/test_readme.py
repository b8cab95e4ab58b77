"""What the README names exists: scripts, flags, make targets and files."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MADE_BY_RUNNING = ("bundle/", "data/", "demo/", "model/", "report/", "series/", "segmentations/", "npy_", "train")


@cache
def help_of(script: str) -> str:
    run = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def commands() -> list[tuple[str, list[str]]]:
    """(script, flags) of every `python script.py ...` in the README."""
    lines = re.findall(r"python ((?:[\w-]+/)*[\w-]+\.py)([^\n`]*)", README)
    return [(script, re.findall(r"--[\w-]+", rest.split("#")[0])) for script, rest in lines]


def test_the_readme_shows_commands():
    assert {script for script, _ in commands()} >= {"make_phantoms.py", "preprocess_data.py"}


def test_every_script_and_every_flag_in_a_command_exists():
    for script, flags in commands():
        assert (ROOT / script).exists(), script
        unknown = [flag for flag in flags if flag not in re.findall(r"--[\w-]+", help_of(script))]
        assert not unknown, f"{script} has no {unknown}"


def test_every_flag_named_in_the_text_belongs_to_a_script():
    known = {flag for script, _ in commands() for flag in re.findall(r"--[\w-]+", help_of(script))}
    assert set(re.findall(r"`(--[\w-]+)", README)) <= known


def test_every_make_target_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", README, re.M)) and all(
        (a or b) in targets for a, b in re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", README, re.M)
    )


def test_every_file_named_or_linked_exists():
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    named = re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|yaml|toml|txt|png|sh))`", README)
    for name in [*linked, *named]:
        if not name.startswith(("http", *MADE_BY_RUNNING)):
            assert (ROOT / name).exists(), name
