"""The pages on the architecture name today's files, and functions that they have."""

import ast
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:\w+/)*\w+\.py):(\w+(?:\.\w+)?)`", PAGE)))


def test_the_list_of_every_file_is_up_to_date():
    made = runpy.run_path(str(ROOT / "scripts" / "file_map.py"))
    assert (ROOT / "docs" / "modules.md").read_text() == made["file_map"](), "run python scripts/file_map.py"


def test_the_functions_that_steps_name_are_in_their_files():
    assert len(NAMED) > 40
    for file, name in NAMED:
        nodes = ast.parse((ROOT / file).read_text())
        for part in name.split("."):
            own = {n.name: n for n in nodes.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
            assert part in own, f"{file} has no {name}"
            nodes = own[part]
