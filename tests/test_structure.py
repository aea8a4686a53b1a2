"""The structure of the package: imports point one way, rooms are few, and modules and functions are short."""

from __future__ import annotations

import ast
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vae_variants"
FILES = sorted(path for folder in ("vae_variants", "bench", "tests") for path in (ROOT / folder).rglob("*.py"))
LAYERS = (  # a package imports from its own layer and those before it
    {"registry", "components", "isolation", "memory"},
    {"models"},
    {"variants"},
    {"datasets"},
    {"training"},
    {"evaluation"},
    {"plugins"},
    {"harness"},
    {"integrations", "analysis"},
    {"api", "report"},
    {"studies"},
    {"checks"},
    {"cli"},
)
LAYER = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
MOST_LINES, MOST_FUNCTION_LINES, MOST_ROOT_MODULES = 350, 60, 8


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES if path.is_relative_to(PACKAGE) and "templates" not in path.parts}


def imported(module: str, *, lazy: bool) -> set[str]:
    """Modules of the package that a module imports; with `lazy` also inside functions, but never for types alone."""
    path, found = MODULES[module], set[str]()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom):
                base = ".".join([*package.split(".")[: len(package.split(".")) - child.level + 1], child.module or ""]).strip(".")
                base = base if child.level else child.module or ""
                found.update(full if (full := f"{base}.{alias.name}") in MODULES else base for alias in child.names)
            elif isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif lazy or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if name in MODULES} - {module}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_no_module_imports_itself_through_others() -> None:
    """Importing `a.b` runs `a/__init__.py` first, which is no cycle: packages import their modules, modules import modules."""
    graph = {module: {name for name in imported(module, lazy=False) if MODULES[name].name != "__init__.py"} for module in MODULES}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in LAYER])
def test_imports_point_one_way(module: str) -> None:
    upward = {name for name in imported(module, lazy=True) if room(name) in LAYER and LAYER[room(name)] > LAYER[room(module)]}
    assert not upward


def test_every_room_has_a_layer() -> None:
    assert {room(module) for module in MODULES} - {"", "__main__"} == set(LAYER)


def test_the_root_has_few_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_ROOT_MODULES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= MOST_FUNCTION_LINES
    }
    assert text.count("\n") <= MOST_LINES
    assert not long


def test_no_module_is_imported_by_a_string() -> None:
    """But for the lazy names of the package itself."""
    for module, path in MODULES.items():
        if module != "vae_variants":
            assert "import_module" not in path.read_text(encoding="utf-8"), module
            assert "_getframe" not in path.read_text(encoding="utf-8"), module


def test_every_mark_names_a_test() -> None:
    for entry in (
        entry for entries in tomllib.loads((ROOT / "tests" / "marks.toml").read_text(encoding="utf-8")).values() for entry in entries
    ):
        file, _, function = entry.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or re.search(rf"^def {function}\(", text, re.MULTILINE), entry


def test_every_mutant_replaces_a_text_that_is_there_once_and_names_tests_that_exist() -> None:
    mutants = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))["mutants"]
    counts = {mutant["bug"]: (ROOT / mutant["file"]).read_text(encoding="utf-8").count(mutant["old"]) for mutant in mutants}
    assert {bug: count for bug, count in counts.items() if count != 1} == {}
    for test in {test for mutant in mutants for test in mutant["tests"]}:
        path, _, name = test.partition("::")
        assert not name or f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8"), test
