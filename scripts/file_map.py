"""Writes the list of every module, with the first line of its docstring, into docs/architecture.md.

    python scripts/file_map.py

Reads  the modules of the repository, docs/architecture.md
Writes docs/architecture.md, below its heading "Every file"
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
HEADING = "## Every file\n"
FOLDERS = [
    ".", "aneurysm", "aneurysm/dicom", "aneurysm/cache", "aneurysm/folds", "aneurysm/phantom", "aneurysm/training",
    "aneurysm/stage1", "aneurysm/stage2", "aneurysm/inference", "aneurysm/report", "volume3d", "scripts", "kaggle",
    "benchmarks",
]  # fmt: skip


def file_map() -> str:
    """A list for each folder: every module but `__init__.py`, and the first line of its docstring."""
    parts = ["Made by `python scripts/file_map.py` from the first line of each file."]
    for folder in FOLDERS:
        name = "The scripts" if folder == "." else f"`{folder}/`"
        modules = [path for path in sorted((ROOT / folder).glob("*.py")) if path.name != "__init__.py"]
        lines = [f"- `{path.name}`: {idea(path)}" for path in modules]
        parts.append("\n".join([f"### {name}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def idea(module: Path) -> str:
    """The first paragraph of its docstring, as one line."""
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def main() -> None:
    before, _ = PAGE.read_text().split(HEADING)
    PAGE.write_text(f"{before}{HEADING}\n{file_map()}")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
