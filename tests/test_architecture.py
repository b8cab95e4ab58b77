"""The page on the architecture tells of today's files, and of functions that they have."""

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:\w+/)*\w+\.py):(\w+(?:\.\w+)?)`", PAGE)))


def test_the_list_of_every_file_is_up_to_date():
    made = runpy.run_path(str(ROOT / "scripts" / "file_map.py"))
    assert PAGE.endswith(f"{made['HEADING']}\n{made['file_map']()}"), "run python scripts/file_map.py"


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_function_that_a_step_names_is_in_its_file(file, name):
    path = ROOT / file
    nodes = ast.parse(path.read_text())
    for part in name.split("."):
        own = {n.name: n for n in nodes.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        assert part in own, f"{path.relative_to(ROOT)} has no {name}"
        nodes = own[part]


def test_functions_are_found_on_the_page():
    assert len(NAMED) > 40
