"""The layers of the house, read from the imports: each part uses only parts below it, and the reader no torch."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
# From the bottom up; parts in one set may not import each other. A script is any module at the top of the repository.
LAYERS = [
    {"labels", "paths", "package", "escape"},
    {"config", "lock", "parallel", "tables", "metrics"},
    {"dicom"},
    {"cache"},
    {"folds"},
    {"phantom", "scores"},
    {"training"},
    {"stage1", "stage2", "volume3d"},
    {"inference"},
    {"report"},
    {"scripts"},
]
TORCH_FREE = set().union(*LAYERS[:6])
HEAVY = {"torch", "torchvision", "timm", "albumentations"}


def modules() -> list[Path]:
    folders = ("aneurysm", "volume3d", "scripts", "benchmarks")
    return sorted([*ROOT.glob("*.py"), *(f for folder in folders for f in (ROOT / folder).rglob("*.py"))])


def part_of(dotted: str) -> str:
    """The part of the house that a module belongs to: `aneurysm.cache.cache` -> `data`, `create_folds` -> `scripts`."""
    names = dotted.split(".")
    if names[0] == "aneurysm":
        return names[1] if len(names) > 1 else "aneurysm"
    return "volume3d" if names[0] == "volume3d" else "scripts"


def level(part: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert all(name.name != "*" for name in node.names), f"{path}: import *"
            found.add(node.module)
    return found


def test_a_module_imports_only_from_layers_below_its_own():
    ours, wrong = {"aneurysm", "volume3d", *(script.stem for script in ROOT.glob("*.py"))}, []
    for path in modules():
        own = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if path.name == "__init__.py":
            assert not imports(path), f"{path}: nothing is imported in __init__.py"
            continue
        for module in (name for name in imports(path) if name.split(".")[0] in ours):
            used = part_of(module)
            if not (used == own and own != "scripts" or level(used) < level(own)):
                wrong.append(f"{path.relative_to(ROOT)} ({own}) imports {module} ({used})")
    assert not wrong


def test_reader_cache_folds_and_phantoms_need_no_torch():
    low = [path for path in modules() if part_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) in TORCH_FREE]
    assert len(low) > 10
    for path in low:
        heavy = {module.split(".")[0] for module in imports(path)} & HEAVY
        assert not heavy, f"{path} imports {heavy}"


def test_no_module_imports_itself_by_a_detour():
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules()}
    graph = {name: imports(path) & set(names.values()) for path, name in names.items()}
    assert set(TopologicalSorter(graph).static_order()) == set(names.values())  # raises CycleError


def test_every_module_begins_with_a_docstring():
    assert all(ast.get_docstring(ast.parse(path.read_text())) for path in modules())


def test_neither_the_package_nor_the_scripts_of_its_steps_need_the_second_system():
    """Inference imports it where a bundle has it, inside functions; nothing else does."""
    first = [path for path in modules() if path.parent == ROOT or path.is_relative_to(ROOT / "aneurysm")]
    may_use_it = {"second_system.py", "sampled.py", "volume_evidence.py"}
    for path in first:
        needed = {module for module in imports(path) if module.split(".")[0] == "volume3d"}
        if path.parent.name == "inference" and path.name in may_use_it:
            at_start = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
            needed = {node.module for node in at_start if node.module.split(".")[0] == "volume3d"}
        assert not needed, f"{path.relative_to(ROOT)} imports {needed}"
